//! Another configuration while we run.

use super::Driver;
use crate::announcer::Event;
use crate::announcer::event::RequestId;
use crate::config::diff;
use crate::config::model::Config;
use crate::io::control::{ControlGroup, Refusal};
use crate::io::{clock, reload, sysctl};

impl Driver {
    /// The file is read and checked beside the loop: a large one must not stop the clock.
    pub(super) fn begin_reload(&mut self, request: Option<RequestId>) {
        self.manager.reloading();
        self.reloads.begin(&self.path, request);
    }

    pub(super) fn finish_reload(&mut self, loaded: reload::Loaded) {
        let answer = match loaded.result {
            Ok((config, warnings)) => {
                warnings.iter().for_each(|w| tracing::warn!("{w}"));
                sysctl::warnings(&config, &sysctl::of_this_machine)
                    .iter()
                    .for_each(|w| tracing::warn!("{w}"));
                self.adopt(config)
            }
            Err(errors) => Err(format!("nothing was changed\n{errors}")),
        };
        match &answer {
            Ok(lines) => tracing::info!("reloaded: {}", lines.join("; ")),
            Err(why) => tracing::error!("not reloaded: {why}"),
        }
        let words = if answer.is_ok() { "reloaded" } else { "reload refused; running as before" };
        if self.ready {
            self.manager.ready(words);
        }
        if let Some(id) = loaded.request {
            let answer = answer.map(|lines| move || lines.join("\n"));
            self.control.reply(id, answer.map_err(Refusal::config));
        }
    }

    fn adopt(&mut self, config: Config) -> Result<Vec<String>, String> {
        if self.core.is_stopping() {
            return Err("announcerd is stopping".into());
        }
        let changes = diff::diff(self.core.config(), &config);
        if let Some(refusal) = changes.refusal() {
            return Err(refusal);
        }
        self.control.set_group(ControlGroup(config.node.control_group.clone()));
        self.web.move_to(config.node.metrics);
        self.core.handle_event(Event::Reload(Box::new(config)), clock::now());
        self.perform();
        self.probes.retain_checks(&self.core.config().checks);
        self.hooks.configure(self.core.config());
        Ok(match changes.is_empty() {
            true => vec!["nothing changed".to_owned()],
            false => changes.lines(),
        })
    }
}
