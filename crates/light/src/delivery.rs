//! How a report reaches its leader: WebRTC first, HTTPS when that does not work, kept and tried
//! again when neither does. A machine without clock or socket: it says what to try, and is told
//! what came of it.

use std::collections::VecDeque;

use defim_protocol::{Millis, Reason};
use serde::{Deserialize, Serialize};

/// How long a path may take to connect, in milliseconds.
pub const CONNECT_MS: Millis = 5_000;
/// How long an upload may stand still, in milliseconds.
pub const STALL_MS: Millis = 15_000;
/// How long an upload over HTTPS may go without news, in milliseconds. Browsers tell of its progress; other
/// clients do not, and have this long for the whole.
pub const HTTPS_MS: Millis = 120_000;
const FIRST_WAIT_MS: Millis = 1_000;
const LONGEST_WAIT_MS: Millis = 30_000;

/// A way to the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Path {
    /// The peer-to-peer path: WebRTC-direct from a browser, QUIC or TCP from a native client.
    Webrtc,
    /// `PUT /tasks/{task}/reports`.
    Https,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Input {
    /// The path is connected; the upload runs.
    Connected {
        /// Which.
        path: Path,
    },
    /// More bytes were taken by the other side.
    Progress,
    /// The path does not work.
    Failed {
        /// Which.
        path: Path,
        /// A stable word; `refused-by-browser` and `no-webrtc` are not tried again.
        code: String,
        /// Why, for a person.
        message: String,
    },
    /// The leader answered.
    Verdict {
        /// Over which path.
        path: Path,
        /// Zero: stored. Otherwise [`Reason::code`].
        code: u16,
    },
    /// Time has passed.
    Tick,
    /// The person wants it tried now.
    Retry,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Output {
    /// Send over this path; give up whatever ran before.
    Try {
        /// Which.
        path: Path,
        /// Why not the other one.
        because: Option<String>,
    },
    /// Keep the report and wait.
    Wait {
        /// Until when.
        until: Millis,
        /// Which node is down and why it is thought so.
        because: String,
    },
    /// The leader has stored the report.
    Delivered {
        /// Over which path.
        path: Path,
        /// Why not the other one.
        because: Option<String>,
    },
    /// The leader has refused the report for good.
    Refused {
        /// [`Reason::slug`].
        code: String,
        /// For a person.
        message: String,
    },
}

#[derive(Debug)]
enum State {
    Idle,
    Trying {
        path: Path,
        alive_at: Millis,
        connected: bool,
    },
    Waiting {
        until: Millis,
    },
    Over,
}

/// The delivery of one report to one leader.
#[derive(Debug)]
pub struct Delivery {
    leader: String,
    webrtc: bool,
    webrtc_failure: Option<String>,
    attempts: u32,
    state: State,
    out: VecDeque<Output>,
}

impl Delivery {
    /// Deliver to the leader of this name; `webrtc` tells whether it has a peer-to-peer address.
    pub fn new(leader: &str, webrtc: bool) -> Self {
        let failure = (!webrtc).then(|| format!("{leader} has no peer-to-peer address"));
        Self {
            leader: leader.to_owned(),
            webrtc,
            webrtc_failure: failure,
            attempts: 0,
            state: State::Idle,
            out: VecDeque::new(),
        }
    }

    /// Take in one event at time `now`.
    pub fn handle(&mut self, now: Millis, input: Input) {
        if matches!(self.state, State::Over) {
            return;
        }
        match input {
            Input::Connected { path } => {
                if let State::Trying {
                    path: tried,
                    alive_at,
                    connected,
                } = &mut self.state
                    && *tried == path
                {
                    *alive_at = now;
                    *connected = true;
                }
            }
            Input::Progress => {
                if let State::Trying {
                    alive_at,
                    connected: true,
                    ..
                } = &mut self.state
                {
                    *alive_at = now;
                }
            }
            Input::Failed {
                path,
                code,
                message,
            } => {
                // A late failure of a path that was already given up changes nothing.
                if matches!(self.state, State::Trying { path: tried, .. } if tried == path) {
                    self.failed(now, path, &code, &message);
                }
            }
            Input::Verdict { path, code } => self.verdict(now, path, code),
            Input::Tick => self.tick(now),
            Input::Retry => {
                if matches!(self.state, State::Waiting { .. } | State::Idle) {
                    self.start(now);
                }
            }
        }
    }

    /// The next thing to do; `None` until something happens or [`Self::next_tick`] is reached.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When [`Input::Tick`] is due at the latest.
    pub fn next_tick(&self) -> Option<Millis> {
        match self.state {
            State::Idle => Some(0),
            State::Trying {
                path,
                alive_at,
                connected,
            } => Some(alive_at + allowance(path, connected)),
            State::Waiting { until } => Some(until),
            State::Over => None,
        }
    }

    fn start(&mut self, now: Millis) {
        let path = if self.webrtc {
            Path::Webrtc
        } else {
            Path::Https
        };
        self.try_path(now, path);
    }

    fn try_path(&mut self, now: Millis, path: Path) {
        self.state = State::Trying {
            path,
            alive_at: now,
            connected: false,
        };
        let because = if path == Path::Https {
            self.webrtc_failure.clone()
        } else {
            None
        };
        self.out.push_back(Output::Try { path, because });
    }

    fn tick(&mut self, now: Millis) {
        match self.state {
            State::Idle => self.start(now),
            State::Trying {
                path,
                alive_at,
                connected,
            } => {
                if now >= alive_at + allowance(path, connected) {
                    let (code, message) = match (path, connected) {
                        (Path::Webrtc, false) => (
                            "timed-out",
                            format!(
                                "no answer over WebRTC within {} s; UDP seems blocked on this network",
                                CONNECT_MS / 1000
                            ),
                        ),
                        (Path::Https, _) => (
                            "timed-out",
                            format!("no answer over HTTPS within {} s", HTTPS_MS / 1000),
                        ),
                        (Path::Webrtc, true) => (
                            "stalled",
                            format!("the upload stood still for {} s", STALL_MS / 1000),
                        ),
                    };
                    self.failed(now, path, code, &message);
                }
            }
            State::Waiting { until } if now >= until => self.start(now),
            State::Waiting { .. } | State::Over => {}
        }
    }

    fn failed(&mut self, now: Millis, path: Path, code: &str, message: &str) {
        match path {
            Path::Webrtc => {
                self.webrtc_failure = Some(message.to_owned());
                // The browser will say no again; do not make the person wait for it.
                if matches!(code, "refused-by-browser" | "no-webrtc") {
                    self.webrtc = false;
                }
                self.try_path(now, Path::Https);
            }
            Path::Https => {
                let other = self
                    .webrtc_failure
                    .clone()
                    .map(|w| format!("WebRTC: {w}. "))
                    .unwrap_or_default();
                self.wait(
                    now,
                    format!(
                        "Full node {} cannot be reached ({other}HTTPS: {message}). Your report is kept on this device and is sent when the node is back.",
                        self.leader
                    ),
                );
            }
        }
    }

    fn wait(&mut self, now: Millis, because: String) {
        let wait = FIRST_WAIT_MS
            .saturating_mul(1 << self.attempts.min(10))
            .min(LONGEST_WAIT_MS);
        self.attempts = self.attempts.saturating_add(1);
        let until = now + wait;
        self.state = State::Waiting { until };
        self.out.push_back(Output::Wait { until, because });
    }

    fn verdict(&mut self, now: Millis, path: Path, code: u16) {
        match Reason::from_code(code) {
            None if code == 0 => {
                self.state = State::Over;
                let because = if path == Path::Https {
                    self.webrtc_failure.clone()
                } else {
                    None
                };
                self.out.push_back(Output::Delivered { path, because });
            }
            // It may be only this path that is overrun, or held by somebody: HTTPS has its own room.
            Some(reason @ Reason::Unavailable) if path == Path::Webrtc => {
                if matches!(self.state, State::Trying { path: tried, .. } if tried == path) {
                    self.failed(now, path, reason.slug(), reason.text());
                }
            }
            Some(reason) if reason.may_pass() => self.wait(now, reason.text().to_owned()),
            reason => {
                self.state = State::Over;
                self.out.push_back(match reason {
                    Some(reason) => Output::Refused { code: reason.slug().into(), message: reason.text().into() },
                    None => Output::Refused {
                        code: "unknown".into(),
                        message: format!("Full node {} refused the report for a reason this client does not know ({code}). Update this client.", self.leader),
                    },
                });
            }
        }
    }
}

const fn allowance(path: Path, connected: bool) -> Millis {
    match (path, connected) {
        (Path::Https, _) => HTTPS_MS,
        (Path::Webrtc, true) => STALL_MS,
        (Path::Webrtc, false) => CONNECT_MS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(path: Path, code: &str) -> Input {
        Input::Failed {
            path,
            code: code.into(),
            message: format!("{code} happened"),
        }
    }

    fn started(webrtc: bool) -> (Delivery, Output) {
        let mut d = Delivery::new("full-1", webrtc);
        d.handle(0, Input::Tick);
        let first = d.poll().unwrap();
        (d, first)
    }

    #[test]
    fn webrtc_gets_five_seconds_then_https_and_the_reason_is_said() {
        let (mut d, first) = started(true);
        assert_eq!(
            first,
            Output::Try {
                path: Path::Webrtc,
                because: None
            }
        );
        d.handle(4_999, Input::Tick);
        assert_eq!(d.poll(), None);
        d.handle(5_000, Input::Tick);
        let Some(Output::Try {
            path: Path::Https,
            because: Some(why),
        }) = d.poll()
        else {
            panic!()
        };
        assert!(why.contains("UDP seems blocked"), "{why}");
        d.handle(
            5_100,
            Input::Verdict {
                path: Path::Https,
                code: 0,
            },
        );
        assert_eq!(
            d.poll(),
            Some(Output::Delivered {
                path: Path::Https,
                because: Some(why)
            })
        );
        assert_eq!(d.next_tick(), None);
    }

    #[test]
    fn a_node_that_is_down_is_named_and_the_report_is_tried_until_it_is_back() {
        let (mut d, _) = started(true);
        let mut now = 0;
        for expected_wait in [1_000, 2_000, 4_000] {
            d.handle(now, fail(Path::Webrtc, "unreachable"));
            assert!(matches!(
                d.poll(),
                Some(Output::Try {
                    path: Path::Https,
                    ..
                })
            ));
            d.handle(now, fail(Path::Https, "unreachable"));
            let Some(Output::Wait { until, because }) = d.poll() else {
                panic!()
            };
            assert_eq!(until, now + expected_wait);
            assert!(
                because.contains("full-1") && because.contains("kept"),
                "{because}"
            );
            now = until;
            d.handle(now, Input::Tick);
            assert!(matches!(
                d.poll(),
                Some(Output::Try {
                    path: Path::Webrtc,
                    ..
                })
            ));
        }
        d.handle(
            now,
            Input::Verdict {
                path: Path::Webrtc,
                code: 0,
            },
        );
        assert!(matches!(d.poll(), Some(Output::Delivered { .. })));
    }

    #[test]
    fn a_browser_that_refuses_webrtc_is_not_asked_again() {
        let (mut d, _) = started(true);
        d.handle(10, fail(Path::Webrtc, "refused-by-browser"));
        assert!(matches!(
            d.poll(),
            Some(Output::Try {
                path: Path::Https,
                ..
            })
        ));
        d.handle(20, fail(Path::Https, "unreachable"));
        assert!(matches!(d.poll(), Some(Output::Wait { .. })));
        d.handle(30, Input::Retry);
        assert!(matches!(
            d.poll(),
            Some(Output::Try {
                path: Path::Https,
                ..
            })
        ));
    }

    #[test]
    fn an_upload_that_stands_still_is_given_up_and_late_news_of_it_is_ignored() {
        let (mut d, _) = started(true);
        d.handle(100, Input::Connected { path: Path::Webrtc });
        d.handle(10_000, Input::Progress);
        d.handle(24_999, Input::Tick);
        assert_eq!(d.poll(), None);
        d.handle(25_000, Input::Tick);
        assert!(matches!(
            d.poll(),
            Some(Output::Try {
                path: Path::Https,
                ..
            })
        ));
        d.handle(25_001, fail(Path::Webrtc, "late"));
        assert_eq!(d.poll(), None);
    }

    #[test]
    fn a_leader_that_has_no_room_over_webrtc_is_tried_over_https() {
        let unavailable = |path| Input::Verdict {
            path,
            code: Reason::Unavailable.code(),
        };
        let (mut d, _) = started(true);
        d.handle(1, unavailable(Path::Webrtc));
        let because = Some(Reason::Unavailable.text().to_owned());
        let path = Path::Https;
        assert_eq!(d.poll(), Some(Output::Try { path, because }));
        // Late news of the other path stops nothing.
        d.handle(2, unavailable(Path::Webrtc));
        assert_eq!(d.poll(), None);
        d.handle(3, unavailable(Path::Https));
        assert!(matches!(d.poll(), Some(Output::Wait { .. })));
    }

    #[test]
    fn refusals_carry_the_public_reason_and_a_pause_keeps_the_report() {
        let (mut d, _) = started(false);
        d.handle(
            0,
            Input::Verdict {
                path: Path::Https,
                code: Reason::Paused.code(),
            },
        );
        assert!(matches!(d.poll(), Some(Output::Wait { .. })));
        d.handle(1_000, Input::Tick);
        assert!(matches!(d.poll(), Some(Output::Try { .. })));
        d.handle(
            1_001,
            Input::Verdict {
                path: Path::Https,
                code: Reason::TooLate.code(),
            },
        );
        let Some(Output::Refused { code, message }) = d.poll() else {
            panic!()
        };
        assert_eq!(code, "too-late");
        assert!(message.contains("deadline"));
    }
}
