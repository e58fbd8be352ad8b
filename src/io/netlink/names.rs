//! Names that `ip route` has for numbers. Asked in error paths only.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The protocol's name from the tables of iproute2 (as they were when first asked), else its number.
pub(super) fn protocol(number: u8) -> String {
    static TABLES: OnceLock<Vec<String>> = OnceLock::new();
    let tables = TABLES.get_or_init(|| tables().iter().filter_map(|f| fs::read_to_string(f).ok()).collect());
    let named = tables.iter().find_map(|text| lookup(text, number));
    named.or_else(|| builtin(number).map(str::to_owned)).unwrap_or_else(|| number.to_string())
}

/// Drop-ins first: they override the main table.
fn tables() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for root in ["/etc/iproute2", "/usr/share/iproute2", "/usr/lib/iproute2"] {
        let root = Path::new(root);
        let drop_ins =
            fs::read_dir(root.join("rt_protos.d")).into_iter().flatten().flatten().map(|e| e.path());
        files.extend(drop_ins.filter(|p| p.extension().is_some_and(|e| e == "conf")));
        files.push(root.join("rt_protos"));
    }
    files
}

fn lookup(text: &str, number: u8) -> Option<String> {
    text.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let (id, name) = (words.next()?, words.next()?);
        let id = match id.strip_prefix("0x") {
            Some(hex) => u8::from_str_radix(hex, 16),
            None => id.parse(),
        };
        (id.ok()? == number).then(|| name.to_owned())
    })
}

fn builtin(number: u8) -> Option<&'static str> {
    Some(match number {
        1 => "redirect",
        2 => "kernel",
        3 => "boot",
        4 => "static",
        9 => "ra",
        11 => "zebra",
        12 => "bird",
        16 => "dhcp",
        18 => "keepalived",
        42 => "babel",
        186 => "bgp",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read_as_iproute2_does() {
        let text = "# comment\n12\tbird\n0xbb  announcerd # ours\nnonsense\n300 big\n";
        assert_eq!(lookup(text, 12).as_deref(), Some("bird"));
        assert_eq!(lookup(text, 187).as_deref(), Some("announcerd"));
        assert_eq!(lookup(text, 44), None);
        assert_eq!(protocol(3), "boot");
        assert_eq!(protocol(251), "251");
    }
}
