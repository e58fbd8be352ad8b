//! What operators ask at the control socket and the HTTP edge.

use std::sync::Arc;

use super::Driver;
use crate::announcer::Event;
use crate::announcer::event::Command;
use crate::announcer::measure::Measures;
use crate::announcer::report::Explanation;
use crate::io::clock;
use crate::io::control::{Ask, ControlRequest};
use crate::io::web::{Answer, Page, Visit};
use crate::metrics;
use crate::status::{EventStatus, Status, WallClock};
use crate::time::Time;

impl Driver {
    pub(super) fn answer(&mut self, request: ControlRequest) {
        let (id, now, wall) = (request.id, clock::now(), clock::wall());
        self.asked.extend(request.said);
        match request.ask {
            Ask::Status => {
                let status = self.status(now, &wall);
                self.control.reply(id, Ok::<_, String>(status));
            }
            Ask::Explain(name) => {
                let answer = self.core.explain(&name, now, &wall);
                let words = |answer: Explanation| move || serde_json::json!({ "text": answer.into_lines() });
                self.control.reply(id, answer.map(words));
            }
            Ask::Events { after, .. } => {
                let events: Vec<EventStatus> =
                    self.core.events_after(after).map(|r| EventStatus::new(r, &wall)).collect();
                let past = Arc::clone(&self.past);
                let all = move || -> Vec<EventStatus> {
                    past.iter().filter(|e| e.seq > after).cloned().chain(events).collect()
                };
                self.control.reply(id, Ok::<_, String>(all));
            }
            Ask::Change(command) => self.core.handle_event(Event::Command { id, command }, now),
            Ask::Reload => self.begin_reload(Some(id)),
            Ask::Probes => {
                self.core.sample_probes(true);
                self.control.reply(id, Ok::<_, String>(|| "every probe's result follows"));
            }
            Ask::Drill { instance, hold } => {
                let command = Command::Drill { instance, hold };
                self.core.handle_event(Event::Command { id, command }, now);
            }
            Ask::PlanDrill(name) => {
                let plan = self.core.plan_drill(&name, now);
                let words = |plan: Explanation| move || serde_json::json!({ "text": plan.into_lines() });
                self.control.reply(id, plan.map(words));
            }
            Ask::LeaveDrill => {
                self.core.handle_event(Event::Command { id, command: Command::LeaveDrill }, now);
            }
        }
    }

    /// The status, to be put in words elsewhere.
    fn status(&self, now: Time, wall: &WallClock) -> impl FnOnce() -> Status + Send + use<> {
        let (picture, board) = (self.core.picture(now, wall), self.bfd.board());
        move || {
            let mut status = picture.into_status();
            board.fill(&mut status);
            status
        }
    }

    /// A page of the HTTP edge, of which only the copying is done here.
    pub(super) fn show(&mut self, visit: Visit) {
        let (now, wall) = (clock::now(), clock::wall());
        match visit.page {
            Page::Metrics => {
                let mut measures = Measures {
                    lateness: self.lateness.clone(),
                    hooks: self.hooks.tallies(),
                    ..self.core.measure(now, &wall)
                };
                let board = self.bfd.board();
                visit.answer(move || {
                    board.fill(&mut measures.status);
                    let body = metrics::render(measures);
                    Answer { code: 200, content_type: metrics::CONTENT_TYPE, body }
                });
            }
            Page::Health => {
                let status = self.core.overview(now, &wall);
                visit.answer(move || Answer::health(&status));
            }
            Page::Status => {
                let status = self.status(now, &wall);
                visit.answer(move || Answer::json(&status()));
            }
        }
    }
}
