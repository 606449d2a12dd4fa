//! One `defim up`, as its operator and the light nodes beside it meet it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::sleep,
    time::Duration,
};

use common::{
    Mesh, defim, defim_with,
    proxy::{Does, proxy},
    text,
};
use serde_json::Value;

/// `defim up` in a folder of its own.
struct Up {
    dir: tempfile::TempDir,
    url: String,
    process: Child,
}

impl Drop for Up {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Up {
    const FIXED: [&str; 5] = ["up", "--listen", "127.0.0.1:0", "--tasks", "diabetes"];

    fn start(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut process = defim()
            .args(Self::FIXED)
            .arg("--data")
            .arg(dir.path().join("mesh"))
            .args(more)
            .arg("--json")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = process.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        let up: Value = serde_json::from_str(&line).unwrap();
        let url = up["mesh"].as_str().unwrap().to_owned();
        Self { dir, url, process }
    }

    fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn call(&self, args: &[&str]) -> Output {
        let mut command = defim();
        command.args(args).args(["--mesh", &self.url]);
        command.output().unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        let done = self.call(&[args, &["--json"]].concat());
        assert!(done.status.success(), "{args:?}: {}", text(&done.stderr));
        serde_json::from_str(text(&done.stdout).lines().next().unwrap()).unwrap()
    }

    fn refused(&self, code: i32, args: &[&str]) -> String {
        refused(code, self.call(args))
    }

    fn contribute(&self, key: &Path) -> Output {
        let rows = self.file("rows.csv");
        std::fs::write(&rows, defim_learn::builtin_csv("diabetes").unwrap()).unwrap();
        let (rows, key) = (rows.to_str().unwrap(), key.to_str().unwrap());
        let fixed = ["contribute", "--task", "diabetes"];
        self.call(&[&fixed[..], &["--data", rows, "--key", key]].concat())
    }

    fn get(&self, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.url.trim_start_matches("http://")).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: defim\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = text(&answer);
        let status = answer.split(' ').nth(1).unwrap().to_owned();
        (status, answer)
    }
}

fn refused(code: i32, done: Output) -> String {
    let message = text(&done.stderr);
    assert_eq!(done.status.code(), Some(code), "{message}");
    message
}

fn has(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "\"{word}\" is not in: {message}");
    }
}

#[test]
fn flags_that_a_task_was_not_made_with_are_refused_and_not_ignored() {
    let mut up = Up::start(&["--min-batch", "2"]);
    up.stop();
    let folder = up.file("mesh");
    let again = |more: &[&str]| {
        let mut command = defim();
        command.args(Up::FIXED).arg("--data").arg(&folder);
        command.args(more).output().unwrap()
    };
    let message = refused(2, again(&["--epsilon", "4", "--min-batch", "7"]));
    has(
        &message,
        &[
            "task diabetes",
            "--epsilon 4",
            "adds no noise",
            "--min-batch 7",
            "it has 2",
            "task create --name",
            "--data",
        ],
    );
    let message = refused(2, again(&["--admission", "approved", "--shares", "3"]));
    has(&message, &["--admission approved", "anybody", "--shares 3"]);
    // A token that can be guessed is none.
    std::fs::write(folder.join("admin.token"), "12345").unwrap();
    has(
        &refused(3, again(&["--min-batch", "2"])),
        &["admin.token", "at least 32"],
    );
}

#[test]
fn what_cannot_be_made_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("mesh");
    let place = folder.to_str().unwrap();
    let fails = |args: &[&str], place: &[&str], code: i32, words: &[&str]| {
        has(&refused(code, defim_with(&[args, place].concat())), words);
        assert!(!folder.exists(), "{args:?}");
    };
    let up = ["--listen", "127.0.0.1:0", "--data", place];
    fails(&["up", "--min-batch", "0"], &up, 3, &["min_batch"]);
    let noise = ["up", "--epsilon", "4", "--delta", "0"];
    fails(&noise, &up, 2, &["--delta", "above 0"]);
    fails(&["up", "--epsilon", "nan"], &up, 2, &["up to 100"]);
    let init = ["--dir", place];
    let validators = ["node", "init", "--validators", "2"];
    fails(&validators, &init, 2, &["at least 4", "or none"]);
    let shares = ["node", "init", "--full", "2", "--shares", "3"];
    fails(&shares, &init, 2, &["--shares 3", "3 full nodes"]);
    let deadline = ["node", "init", "--deadline", "0.5"];
    fails(&deadline, &init, 3, &["ends before anybody has trained"]);
}

/// One contribution of all rows over HTTPS.
fn contribution(up: &Up, mesh: &str) -> Command {
    let rows = up.file("rows.csv");
    std::fs::write(&rows, defim_learn::builtin_csv("diabetes").unwrap()).unwrap();
    let mut command = defim();
    command.args(["contribute", "--task", "diabetes", "--via", "https"]);
    command
        .args(["--timeout", "60", "--mesh", mesh, "--data"])
        .arg(rows);
    command
}

/// Contributions that are stored, one after the other.
fn others(up: &Up, count: usize) {
    for _ in 0..count {
        let other = contribution(up, &up.url).output().unwrap();
        assert!(other.status.success(), "{}", text(&other.stderr));
    }
}

/// How many contributions each round counts.
fn counted(up: &Up) -> Vec<u64> {
    let history = up.json(&["task", "show", "diabetes"])["history"].clone();
    let reports = history.as_array().unwrap().iter();
    reports
        .map(|round| round["reports"].as_u64().unwrap())
        .collect()
}

/// Whether so many rounds of the mesh at this address are done.
fn done(mesh: &str, rounds: u64) -> bool {
    let shown = defim_with(&["task", "show", "diabetes", "--json", "--mesh", mesh]);
    let task: Value = serde_json::from_slice(&shown.stdout).unwrap();
    task["roundsDone"].as_u64() >= Some(rounds)
}

/// What one person's contribution through a proxy ends with, and how many contributions each round of the mesh counts.
fn through(up: &Up, at: &str, count: usize) -> (Output, Vec<u64>) {
    let ended = std::thread::scope(|scope| {
        let person = scope.spawn(|| contribution(up, at).args(["--wait", "--json"]).output());
        others(up, count);
        person.join().unwrap().unwrap()
    });
    (ended, counted(up))
}

#[test]
fn who_comes_too_late_for_a_round_takes_part_in_the_next() {
    let up = Up::start(&["--min-batch", "2", "--settle", "0"]);
    // The person has begun with the first round, and gets its model when the others have ended it.
    let begun = Arc::new(AtomicUsize::new(0));
    let (asked, mesh) = (begun.clone(), up.url.clone());
    let at = proxy(&up.url, move |line| {
        if line.contains("/models/") && asked.fetch_add(1, Ordering::SeqCst) == 0 {
            while !done(&mesh, 1) {
                sleep(Duration::from_millis(100));
            }
        }
        Does::Pass
    });
    let person = contribution(&up, &at)
        .args(["--wait", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while begun.load(Ordering::SeqCst) == 0 {
        sleep(Duration::from_millis(20));
    }
    others(&up, 2);
    while !done(&up.url, 1) {
        sleep(Duration::from_millis(100));
    }
    others(&up, 1);
    let ended = person.wait_with_output().unwrap();
    let told = text(&ended.stderr);
    assert!(ended.status.success(), "{told}");
    has(&told, &["round 1 does not count the report"]);
    let counts: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(counts["round"], 2);
    assert!(!counts["receipt"].is_null(), "{counts}");
    assert_eq!(counted(&up), [2, 2]);
}

#[test]
fn whose_answer_was_lost_is_not_counted_twice() {
    let up = Up::start(&["--min-batch", "2", "--settle", "0"]);
    let (puts, mesh) = (AtomicUsize::new(0), up.url.clone());
    // The report arrives, its answer is lost, and it cannot come again before the round is over.
    let at = proxy(&up.url, move |line| {
        if !line.starts_with("PUT") {
            return Does::Pass;
        }
        match puts.fetch_add(1, Ordering::SeqCst) {
            0 => Does::Lose,
            _ if done(&mesh, 1) => Does::Pass,
            _ => Does::Cut,
        }
    });
    let (ended, rounds) = through(&up, &at, 1);
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    let counts: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(counts["round"], 1);
    assert!(!counts["receipt"].is_null(), "{counts}");
    assert_eq!(rounds, [2]);
}

#[test]
fn a_mesh_that_denies_receipts_gets_nobodys_rows_again() {
    let up = Up::start(&["--min-batch", "2", "--settle", "0"]);
    let at = proxy(&up.url, |line| match line.contains("/ledger/receipt/") {
        true => Does::Deny,
        false => Does::Pass,
    });
    let (ended, rounds) = through(&up, &at, 1);
    has(
        &refused(5, ended),
        &["counts the contribution", "no receipt"],
    );
    assert_eq!(rounds, [2]);
    // Nor if it denies the list of who is counted too.
    let at = proxy(&up.url, |line| {
        match line.contains("/ledger/receipt/") || line.contains("/artefacts/ids.") {
            true => Does::Deny,
            false => Does::Pass,
        }
    });
    let (ended, rounds) = through(&up, &at, 1);
    has(&refused(4, ended), &["is not known"]);
    assert_eq!(rounds, [2, 2]);
}

#[test]
fn rewards_are_claimed_later_and_parallel_transfers_all_arrive() {
    let up = Up::start(&["--min-batch", "2", "--settle", "1", "--admission", "open"]);
    let (one, two) = (up.file("one.key"), up.file("two.key"));
    let done = up.contribute(&one);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let message = refused(3, up.contribute(&one));
    has(
        &message,
        &["this key has contributed to round 1 already", "next round"],
    );
    let done = up.contribute(&two);
    assert!(done.status.success(), "{}", text(&done.stderr));

    let key = one.to_str().unwrap();
    let claim = ["account", "claim", "--task", "diabetes", "--key", key];
    let claims = (0..180).map(|_| {
        sleep(Duration::from_millis(500));
        up.json(&claim)
    });
    let some = |claimed: &serde_json::Value| claimed["rounds"] != serde_json::json!([]);
    let claimed = { claims }.find(some).unwrap();
    assert_eq!(claimed["rounds"], serde_json::json!([1]));
    // Half of the round's 10,000 points is for light nodes, and two of them were counted.
    assert_eq!(
        (&claimed["points"], &claimed["balance"]),
        (&2500.into(), &2500.into())
    );
    let again = text(&up.call(&claim).stdout);
    has(&again, &["nothing to claim", "2500 points"]);
    let admin = up.file("mesh/admin.key");
    let admin = admin.to_str().unwrap();
    let message = up.refused(
        3,
        &["account", "claim", "--task", "diabetes", "--key", admin],
    );
    has(&message, &["not enrolled"]);

    let account = claimed["account"].as_str().unwrap().to_owned();
    let give = |amount: &'static str| {
        let mut command = defim();
        command.args(["account", "transfer", "--key", admin, "--mesh", &up.url]);
        command.args([&format!("--to={account}"), "--amount", amount]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    for process in ["1", "20", "300"].map(give) {
        let done = process.wait_with_output().unwrap();
        assert!(done.status.success(), "{}", text(&done.stderr));
    }
    let shown = up.json(&["account", "show", "--key", key]);
    assert_eq!(shown["balance"], 2821);
}

#[test]
fn what_goes_wrong_is_said_in_words() {
    let up = Up::start(&[]);
    let nodes = text(&up.call(&["node", "list"]).stdout);
    let validators = nodes.lines().filter(|line| line.starts_with("validator-"));
    assert!(validators.clone().count() == 4, "{nodes}");
    assert!(validators.clone().all(|line| line.contains(" validation ")));
    let message = up.refused(3, &["task", "show", "nope"]);
    has(&message, &["no task \"nope\"", "defim task list"]);
    let https = up.url.replace("http:", "https:");
    let message = refused(4, defim_with(&["task", "list", "--mesh", &https]));
    has(&message, &["is no https", "http://"]);

    let (status, openapi) = up.get("/api/v1/openapi.json");
    assert_eq!(status, "200");
    has(
        &openapi,
        &[
            "\"/ledger/receipt/{task}/{round}/{report}\"",
            "\"/ledger/txs\"",
        ],
    );
    for path in [
        "/api/v1/ledger/blocks?limit=x",
        "/api/v1/ledger/blocks/x",
        "/api/v1/ledger/chain?from=-1",
        "/api/v1/tasks/diabetes?limit=x",
    ] {
        let (status, answer) = up.get(path);
        assert_eq!(status, "400", "{path}: {answer}");
        has(&answer, &["\"code\":\"input\"", "\"message\":"]);
    }
    let (status, answer) = up.get("/no/such/page");
    assert_eq!(status, "404");
    has(&answer, &["\"code\":\"not-found\""]);
}

#[test]
fn an_unknown_page_is_the_pages_own_with_404() {
    let site = tempfile::tempdir().unwrap();
    std::fs::write(site.path().join("index.html"), "<p>the page</p>").unwrap();
    let up = Up::start(&["--web", site.path().to_str().unwrap()]);
    for (path, wanted) in [("/", "200"), ("/ledger", "200"), ("/no/such", "404")] {
        let (status, answer) = up.get(path);
        assert_eq!(status, wanted, "{path}: {answer}");
        has(&answer, &["the page"]);
    }
}

#[test]
fn a_mesh_that_says_nothing_is_given_up_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mesh = format!("http://{}", silent.local_addr().unwrap());
    let args = ["contribute", "--task", "digits", "--data", "/dev/null"];
    let done = defim_with(&[&args[..], &["--timeout", "2", "--mesh", &mesh]].concat());
    has(&refused(4, done), &["does not answer within 2 s"]);

    // One that answers with a page is no mesh.
    let page = TcpListener::bind("127.0.0.1:0").unwrap();
    let mesh = format!("http://{}", page.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = page.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 13\r\nConnection: close\r\n\r\n";
        let _ = stream.write_all(format!("{head}<html></html>").as_bytes());
    });
    let message = refused(3, defim_with(&["task", "list", "--mesh", &mesh]));
    has(&message, &["it is a page", "--mesh"]);
    serving.join().unwrap();
}

#[test]
fn a_round_that_validators_have_not_accepted_is_not_called_done() {
    let mut mesh = Mesh::start(&["--min-batch", "2", "--settle", "1"]);
    mesh.wait("the opening is final", |mesh| {
        mesh.task()["round"]["ledger"]["height"].as_u64().is_some()
    });
    mesh.kill("validator-2");
    mesh.kill("validator-3");
    for _ in 0..2 {
        let done = mesh.contribute(&[]);
        assert!(done.status.success(), "{}", text(&done.stderr));
    }
    mesh.wait("the round is proposed", |mesh| mesh.task()["proposed"] == 1);
    let url = mesh.url();
    let shown = text(&defim_with(&["task", "show", "digits", "--mesh", &url]).stdout);
    has(
        &shown,
        &[
            "0 of 1000 done",
            "waits for the ledger: ",
            "proposed, not accepted yet",
        ],
    );
    let message = refused(4, mesh.contribute(&["--timeout", "1"]));
    has(&message, &["the ledger is waited for", "votes"]);
    mesh.run("validator-2");
    mesh.wait("the round is accepted", |mesh| {
        mesh.task()["proposed"].is_null()
    });
    let shown = text(&defim_with(&["task", "show", "digits", "--mesh", &url]).stdout);
    has(&shown, &["1 of 1000 done"]);
    assert!(!shown.contains("proposed"), "{shown}");

    let out = mesh.dir.path().join("model.safetensors");
    let out = out.to_str().unwrap();
    std::fs::write(out, "rows").unwrap();
    let export = ["model", "export", "--task", "digits", "--out", out];
    has(
        &refused(3, mesh.call(&export)),
        &["there already", "--force"],
    );
    assert_eq!(std::fs::read(out).unwrap(), b"rows");
    assert!(mesh.json(&[&export[..], &["--force"]].concat()).is_some());
    assert_ne!(std::fs::read(out).unwrap(), b"rows");
}
