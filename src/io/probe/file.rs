//! `file`: present, and fresh enough.

use std::io::{Error, ErrorKind};
use std::time::{Duration, SystemTime};

use super::target::cannot;
use super::{Fault, Kit, Verdict};
use crate::config::model::{File, Name};

/// Stats the file on a thread. A modification time in the future is fresh.
pub async fn probe(kit: &Kit, check: &Name, file: &File) -> Verdict {
    let path = file.path.clone();
    let modified = kit.threads.run(check, move |_place| std::fs::metadata(path)?.modified()).await?;
    judge(file, modified, SystemTime::now())
}

fn judge(file: &File, modified: Result<SystemTime, Error>, now: SystemTime) -> Verdict {
    let path = file.path.display();
    let modified = match modified {
        Ok(modified) => modified,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Err(Fault::Theirs(format!("{path} does not exist")));
        }
        Err(e) => return Err(cannot(&format!("look at {path}"), &e)),
    };
    let age = now.duration_since(modified).unwrap_or(Duration::ZERO);
    match file.max_age {
        Some(max) if age > max => {
            let age = humantime::format_duration(Duration::from_secs(age.as_secs()));
            Err(Fault::Theirs(format!(
                "{path} is {age} old, allowed are {}",
                humantime::format_duration(max)
            )))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_and_old_are_failures_and_what_cannot_be_seen_is_neither() {
        let file = File { path: "/run/fresh".into(), max_age: Some(Duration::from_secs(60)) };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let at = |age: u64| Ok(now - Duration::from_secs(age));
        assert_eq!(judge(&file, at(60), now), Ok(None));
        let old = Err(Fault::Theirs("/run/fresh is 1m 1s old, allowed are 1m".into()));
        assert_eq!(judge(&file, at(61), now), old);
        assert_eq!(judge(&file, Ok(now + Duration::from_secs(3600)), now), Ok(None), "from the future");
        let missing = Err(Error::from_raw_os_error(libc::ENOENT));
        assert_eq!(judge(&file, missing, now), Err(Fault::Theirs("/run/fresh does not exist".into())));
        let denied = Err(Error::from_raw_os_error(libc::EACCES));
        assert!(matches!(judge(&file, denied, now), Err(Fault::Ours(_))));
    }
}
