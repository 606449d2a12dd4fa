use super::*;
use crate::api::tests::{record, task};

fn event(json: &str) -> Input {
    Input::Event(serde_json::from_str(json).unwrap())
}

fn delivered() -> Delivered {
    Delivered {
        task: "t".into(),
        task_name: "digits".into(),
        round: 2,
        report: "r".into(),
        node: "full-1".into(),
        path: Via::Webrtc,
        because: None,
        bytes: 21_000,
    }
}

fn outcome(state: Verdict, text: Option<&str>) -> Input {
    Input::Outcome(Outcome {
        state,
        reason: None,
        text: text.map(Into::into),
    })
}

fn over(rounds: &[String]) -> Input {
    Input::Task(Box::new(task(&format!(
        r#"{{"history":[{}]}}"#,
        rounds.join(",")
    ))))
}

fn run(inputs: impl IntoIterator<Item = Input>) -> Run {
    let mut run = Run::default();
    for input in inputs {
        run.take(input);
    }
    run
}

fn marks(run: &Run) -> [Mark; 6] {
    Step::ALL.map(|step| run.at(step).mark)
}

fn start() -> Input {
    Input::Start { task: "t".into() }
}

const READ: &str = r#"{"kind":"step","step":"read","ms":3,"rows":75,"bytes":12000}"#;
const TRAINED: &str = r#"{"kind":"step","step":"trained","ms":40,"bytes":2600,"lossBefore":2.3,"lossAfter":0.4,"norm":5,"clipped":true}"#;
const SPLIT: &str = r#"{"kind":"step","step":"split","ms":200,"bytes":20000}"#;
const SEALED: &str =
    r#"{"kind":"step","step":"sealed","ms":1,"bytes":20500,"report":"r","round":2}"#;
const UPLOAD: &str = r#"{"kind":"upload","sent":16000,"total":20500,"resumedFrom":8000}"#;
const KEPT: &str =
    r#"{"kind":"kept","retryMs":1000,"because":"full-1 cannot be reached. Your report is kept"}"#;

#[test]
fn each_station_is_done_in_turn_with_its_cost() {
    use Mark::{Done, Running, Waiting};
    let mut run = run([start(), event(READ)]);
    assert_eq!(
        marks(&run),
        [Done, Running, Waiting, Waiting, Waiting, Waiting]
    );
    assert_eq!(run.at(Step::Read).note.as_deref(), Some("75 rows"));
    run.take(event(
        r#"{"kind":"training","epoch":2,"epochs":5,"loss":0.412}"#,
    ));
    assert_eq!(
        run.at(Step::Trained).note.as_deref(),
        Some("pass 2 of 5, loss 0.412")
    );
    run.take(event(TRAINED));
    assert!(
        run.at(Step::Trained)
            .note
            .as_deref()
            .unwrap()
            .contains("shortened to the task's bound")
    );
    run.take(event(SPLIT));
    run.take(event(SEALED));
    assert_eq!(marks(&run), [Done, Done, Done, Done, Running, Waiting]);
    assert_eq!(run.at(Step::Split).bytes, Some(20000));
    run.take(Input::Delivered(delivered()));
    assert_eq!(marks(&run), [Done, Done, Done, Done, Done, Running]);
    assert!(!run.busy());
}

#[test]
fn it_is_counted_only_when_the_round_is_over_and_the_report_was_verified() {
    let sent = || [start(), event(SEALED), Input::Delivered(delivered())];
    let mut early = run(sent());
    early.take(over(&[
        record(1, "finished", 0.8),
        record(2, "finished", 0.9),
    ]));
    assert_eq!(early.status, Status::Delivered, "not verified yet");
    early.take(outcome(Verdict::Verified, None));
    assert_eq!(early.status, Status::Counted, "the verdict may come last");
    let mut early = run(sent());
    early.take(outcome(Verdict::Verified, None));
    early.take(over(&[record(1, "finished", 0.8)]));
    assert_eq!(early.status, Status::Delivered, "round 2 is not over");
    early.take(over(&[
        record(1, "finished", 0.8),
        record(2, "finished", 0.9),
    ]));
    assert_eq!(early.status, Status::Counted);
    let effect = early.effect.unwrap();
    assert_eq!(
        (
            effect.before.unwrap().accuracy,
            effect.after.unwrap().accuracy
        ),
        (Some(0.8), Some(0.9))
    );
}

#[test]
fn a_rejected_or_voided_contribution_says_why() {
    let sent = || [start(), event(SEALED), Input::Delivered(delivered())];
    let mut rejected = run(sent());
    rejected.take(outcome(Verdict::Rejected, Some("The proof does not hold.")));
    assert_eq!(rejected.at(Step::Counted).mark, Mark::Failed);
    assert!(rejected.told().ends_with("The proof does not hold."));
    let mut voided = run(sent());
    voided.take(outcome(Verdict::Verified, None));
    voided.take(over(&[record(2, "voided", 0.0)]));
    assert!(
        voided
            .told()
            .starts_with("Round 2 ended without a result: too few.")
    );
    assert_eq!(voided.at(Step::Counted).note, None, "no round goes on");
    let closed = || {
        Input::Outcome(Outcome {
            state: Verdict::Rejected,
            reason: Some("round-closed".into()),
            text: Some("The round is closed.".into()),
        })
    };
    let mut ended = run(sent());
    ended.take(closed());
    assert_eq!(ended.status, Status::Delivered, "why is not known yet");
    ended.take(over(&[record(2, "voided", 0.0)]));
    assert!(ended.told().starts_with("Round 2 ended without a result"));
    let mut late = run(sent());
    late.take(over(&[record(2, "finished", 0.9)]));
    late.take(closed());
    assert!(late.told().ends_with("The round is closed."));
    let mut lost = run(sent());
    lost.take(outcome(Verdict::Unknown, None));
    assert_eq!(
        lost.status,
        Status::Delivered,
        "the leader may still be starting"
    );
    lost.take(over(&[record(2, "finished", 0.9)]));
    assert_eq!(lost.status, Status::Stopped);
}

#[test]
fn history_alone_proves_nothing() {
    use crate::proof::tests::{receipt, refused};
    let said = || {
        run([
            start(),
            event(SEALED),
            Input::Delivered(delivered()),
            outcome(Verdict::Verified, None),
            over(&[record(2, "finished", 0.9)]),
        ])
    };
    let told = said();
    assert_eq!(told.status, Status::Counted);
    assert_eq!(told.at(Step::Counted).mark, Mark::Running, "only told so");
    assert!(
        told.told().contains("proof is on its way"),
        "{}",
        told.told()
    );
    let after = |proof| {
        let mut run = said();
        run.take(Input::Proof(proof));
        run
    };
    let early = after(Proof::Early {
        because: String::new(),
        late: true,
    });
    assert_eq!(early.at(Step::Counted).mark, Mark::Running);
    let mut refused = after(Proof::Refused(refused("ledger-gone")));
    assert_eq!(refused.at(Step::Counted).mark, Mark::Failed);
    assert!(refused.told().contains("does not prove it"));
    refused.take(Input::Proof(Proof::Right(receipt())));
    assert_eq!(refused.at(Step::Counted).mark, Mark::Done);
    assert!(refused.told().contains("proven in this browser"));
    assert_eq!(after(Proof::NoLedger).at(Step::Counted).mark, Mark::Done);
    let voided = after(Proof::Voided);
    assert_eq!(
        (voided.status, voided.effect.clone()),
        (Status::Stopped, None)
    );
    assert!(voided.told().contains("its ledger has voided the round"));
}

#[test]
fn another_tasks_round_counts_nothing() {
    let mut run = run([
        start(),
        Input::Delivered(delivered()),
        outcome(Verdict::Verified, None),
    ]);
    let mut other = task(&format!(
        r#"{{"history":[{}]}}"#,
        record(2, "finished", 0.9)
    ));
    other.id = "other".into();
    run.take(Input::Task(Box::new(other)));
    assert_eq!(run.status, Status::Delivered);
}

#[test]
fn a_kept_report_is_told_until_it_moves_again() {
    let mut run = run([start(), event(SEALED), event(KEPT)]);
    assert_eq!(run.told(), "full-1 cannot be reached. Your report is kept.");
    assert!(run.busy(), "it is still on its way");
    run.take(event(UPLOAD));
    assert_eq!(run.kept, None);
    assert_eq!(run.told(), "Sending; going on after 8.0 kB.");
}

fn kept() -> Kept {
    Kept {
        report: "r".into(),
        task: "t".into(),
        task_name: "digits".into(),
        round: 2,
        bytes: 20500,
    }
}

#[test]
fn a_stopped_contribution_waits_for_its_person() {
    let mut early = run([start(), event(READ), Input::Stopped { left: false }]);
    assert_eq!(early.at(Step::Trained).mark, Mark::Failed);
    assert_eq!((early.told().as_str(), early.brief()), ("Stopped.", None));
    early.take(start());
    assert!(early.busy());

    let mut sealed = run([start(), event(TRAINED), event(SEALED), event(UPLOAD)]);
    sealed.take(Input::Stopped { left: true });
    assert!(sealed.left && !sealed.busy() && sealed.problem.is_none());
    assert!(sealed.told().contains("round 2 is kept in this browser"));
    sealed.take(Input::GoOn);
    assert!(sealed.busy() && !sealed.left);
    sealed.take(Input::Resume(kept()));
    assert_eq!(sealed.upload, None);
    assert!(!sealed.resumed, "it is the same page");
    assert_eq!(
        sealed.at(Step::Trained).ms,
        Some(40.0),
        "and its steps are known"
    );
    sealed.take(Input::Discarded);
    assert_eq!((sealed.told().as_str(), sealed.left), ("Discarded.", false));

    let reloaded = run([Input::Kept(kept())]);
    assert!(reloaded.left && !reloaded.busy());
    assert_eq!(reloaded.at(Step::Sealed).mark, Mark::Done);
    assert_eq!(reloaded.at(Step::Sent).mark, Mark::Failed);
}

#[test]
fn a_reloaded_page_goes_on_where_it_was() {
    let resumed = run([Input::Resume(kept())]);
    assert!(resumed.resumed && resumed.busy());
    assert_eq!(resumed.at(Step::Sealed).mark, Mark::Done);
    assert_eq!(resumed.at(Step::Sent).mark, Mark::Running);
    let waiting = run([Input::Again(delivered()), outcome(Verdict::Verified, None)]);
    assert_eq!(waiting.status, Status::Delivered);
    assert_eq!(waiting.at(Step::Counted).mark, Mark::Running);
}

#[test]
fn a_failure_marks_the_station_it_stopped_at_and_a_new_start_forgets_it() {
    let failure = Failure {
        code: "bad-data".into(),
        message: "Row 2".into(),
        problems: None,
    };
    let mut run = run([
        start(),
        event(READ),
        event(TRAINED),
        Input::Refused(failure),
    ]);
    assert_eq!(run.at(Step::Split).mark, Mark::Failed);
    run.take(event(SPLIT));
    assert_eq!(
        run.at(Step::Split).mark,
        Mark::Failed,
        "late events change nothing"
    );
    run.take(start());
    assert_eq!(
        (run.problem.clone(), run.at(Step::Split).mark),
        (None, Mark::Waiting)
    );
}

#[test]
fn one_contribution_a_round_is_enough() {
    let run = run([start(), Input::Delivered(delivered())]);
    let open = |round: u64| {
        task(&format!(
            r#"{{"round":{{"round":{round},"text":"","acceptsReports":true,"pending":0,"verified":1,"minBatch":3}}}}"#
        ))
    };
    assert_eq!(run.waits_for(&open(2)), Some(2));
    assert_eq!(run.waits_for(&open(3)), None, "the next round is open");
}

#[test]
fn the_block_of_the_opening_is_known_before_anything_is_trained_and_stays() {
    const FINAL: &str = r#"{"kind":"step","step":"final","ms":600,"round":2,"height":41,"signers":["validation-1"],"validators":4}"#;
    let mut now = run([start(), event(FINAL)]);
    assert_eq!(now.opening.as_ref().map(|opening| opening.height), Some(41));
    assert_eq!(now.round, Some(2));
    assert_eq!(marks(&now)[..2], [Mark::Running, Mark::Waiting]);
    for step in [READ, TRAINED, SPLIT, SEALED] {
        now.take(event(step));
    }
    now.take(Input::Delivered(delivered()));
    assert_eq!(now.opening.map(|opening| opening.height), Some(41));
    // Another contribution has an opening of its own.
    let next = run([start(), event(FINAL), start()]);
    assert_eq!(next.opening, None);
}

#[test]
fn a_person_whose_task_is_gone_reads_what_became_of_theirs() {
    let sent = run([start(), event(SEALED), Input::Delivered(delivered())]);
    let told = sent.gone_told(Some("Digits"));
    assert!(
        told.contains("no task “Digits” any more") && told.contains("round 2 ended with it"),
        "{told}"
    );
    assert!(run([start()]).gone_told(None).contains("has ended with it"));
}
