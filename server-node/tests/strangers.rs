//! What a stranger sends costs a node next to nothing, and the API says no in one form.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use common::{Mesh, defim, text};
use serde_json::Value;

/// Send this head, and as much of the body; the answer comes although the body does not.
fn answer(port: u16, head: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream
        .set_read_timeout(Some(std::time::Duration::from_secs(10)))
        .unwrap();
    let head = format!("{head}\r\nHost: defim\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(b"\r\n").unwrap();
    // The node may close before all is sent.
    let _ = stream.write_all(body);
    let mut all = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(read) => all.extend_from_slice(&piece[..read]),
        }
        if !head.contains("Connection: close") && text(&all).contains("\"}") {
            break;
        }
    }
    text(&all)
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

fn json(answer: &str) -> Value {
    let start = answer.find('{').unwrap_or_else(|| panic!("{answer}"));
    let end = answer.rfind('}').unwrap();
    serde_json::from_str(&answer[start..=end]).unwrap_or_else(|_| panic!("{answer}"))
}

#[test]
fn who_may_not_ask_is_told_before_a_byte_of_the_body_is_read() {
    let mesh = Mesh::start(&["--min-batch", "2"]);
    let (api, full) = (mesh.port, mesh.port + 10);
    let large = "Content-Length: 50000000";
    for (port, head, wanted) in [
        (api, "POST /api/v1/tasks HTTP/1.1", "401"),
        (api, "POST /api/v1/tasks/digits/pause HTTP/1.1", "401"),
        (api, "POST /api/v1/tasks/digits/void-round HTTP/1.1", "401"),
        (full, "PUT /tasks/AAAA/reports HTTP/1.1", "404"),
    ] {
        let got = answer(port, &format!("{head}\r\n{large}"), b"");
        assert_eq!(status(&got), wanted, "{head}: {got}");
    }
    let token = std::fs::read_to_string(mesh.folder().join("aggregation/admin.token")).unwrap();
    let head = format!(
        "POST /api/v1/tasks HTTP/1.1\r\nAuthorization: Bearer {}\r\n{large}",
        token.trim()
    );
    let got = answer(api, &head, b"");
    assert_eq!(status(&got), "413", "{got}");
    assert_eq!(json(&got)["code"], "too-large");

    // A report is as long as its task's reports are. A contribution says how long.
    let done = mesh.contribute(&[]);
    let sent: Value = serde_json::from_str(text(&done.stdout).trim()).unwrap();
    let length = sent["bytes"].as_u64().unwrap();
    let task = mesh.task()["id"].as_str().unwrap().to_owned();
    let put = format!("PUT /tasks/{task}/reports HTTP/1.1");
    let too_long = format!("{put}\r\nContent-Length: {}", length + 1000);
    let got = answer(full, &too_long, b"");
    assert_eq!(
        (status(&got), json(&got)["code"].as_str()),
        ("413", Some("too-large"))
    );
    // Without a length it is cut off where a report would end.
    let endless = format!("{put}\r\nTransfer-Encoding: chunked");
    let piece = vec![b'x'; 0x10000];
    let mut body = Vec::new();
    while body.len() < length as usize + 200_000 {
        body.extend_from_slice(b"10000\r\n");
        body.extend_from_slice(&piece);
        body.extend_from_slice(b"\r\n");
    }
    let got = answer(full, &endless, &body);
    assert!(got.is_empty() || status(&got) == "413", "{got}");

    // None of it is in what the members will sign or what people see; it is a metric.
    let junk = format!("{put}\r\nContent-Length: 4");
    for _ in 0..3 {
        let got = answer(full, &junk, b"junk");
        assert_eq!(json(&got)["code"], "malformed");
    }
    mesh.wait("the report is verified", |mesh| {
        mesh.task()["round"]["verified"] == 1
    });
    assert_eq!(mesh.task()["round"]["rejected"], serde_json::json!({}));
    let metrics = answer(full, "GET /metrics HTTP/1.1\r\nConnection: close", b"");
    let line = metrics
        .lines()
        .find(|line| line.starts_with("defim_refused_uploads{") && line.contains("malformed"))
        .unwrap_or_else(|| panic!("{metrics}"));
    assert!(line.ends_with(" 3"), "{line}");
}

#[test]
fn the_api_says_no_in_one_form_and_gives_history_page_by_page() {
    let mesh = Mesh::start(&["--min-batch", "2"]);
    for (head, wanted) in [
        ("GET /api/v1/tasks/%FF HTTP/1.1", "400"),
        ("GET /api/v1/tasks/none HTTP/1.1", "404"),
        ("DELETE /api/v1/tasks HTTP/1.1", "405"),
        ("GET /api/v1/tasks/digits?limit=many HTTP/1.1", "400"),
        ("GET /samples/%FF HTTP/1.1", "400"),
    ] {
        let got = answer(mesh.port, head, b"");
        assert_eq!(status(&got), wanted, "{head}: {got}");
        let body = json(&got);
        assert!(
            body["code"].is_string() && body["message"].is_string(),
            "{head}: {got}"
        );
    }
    let token = mesh.folder().join("aggregation/admin.token");
    for round in 1..=4_u64 {
        mesh.wait("a round is open", |mesh| {
            mesh.task()["round"]["round"] == round
        });
        let done = mesh.call(&[
            "task",
            "void-round",
            "digits",
            "--admin-token",
            token.to_str().unwrap(),
        ]);
        assert!(done.status.success(), "{}", text(&done.stderr));
    }
    let rounds = |query: &str| -> Vec<u64> {
        let got = answer(
            mesh.port,
            &format!("GET /api/v1/tasks/digits{query} HTTP/1.1\r\nConnection: close"),
            b"",
        );
        let start = got.find("\"history\":").unwrap();
        got[start..]
            .split("\"round\":")
            .skip(1)
            .map_while(|rest| rest.split([',', '}']).next()?.parse().ok())
            .collect()
    };
    assert_eq!(rounds(""), [1, 2, 3, 4]);
    assert_eq!(rounds("?limit=2"), [3, 4]);
    assert_eq!(rounds("?limit=2&before=3"), [1, 2]);
    // Whoever asks for the history is not let in with more than a page.
    assert_eq!(rounds("?limit=99999999"), [1, 2, 3, 4]);
}

#[test]
fn a_task_that_nobody_could_contribute_to_is_refused_when_it_is_made() {
    let mesh = Mesh::start(&["--min-batch", "2"]);
    let token = mesh.folder().join("aggregation/admin.token");
    let create = |task: &str, more: &[&str]| {
        let fixed = [
            "task",
            "create",
            "--task",
            task,
            "--name",
            "own",
            "--admin-token",
            token.to_str().unwrap(),
        ];
        mesh.call(&[&fixed, more].concat())
    };
    let refused = |done: std::process::Output, word: &str| {
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(3), "{said}");
        assert!(said.contains(word), "{said}");
    };
    refused(create("diabetes", &["--deadline", "0.001"]), "deadline");
    let spec = defim_learn::builtin("digits", Some("mlp")).unwrap().spec;
    let file = mesh.dir.path().join("own.json");
    let own = |change: &dyn Fn(&mut Value)| {
        let mut value = serde_json::to_value(&spec).unwrap();
        change(&mut value);
        std::fs::write(&file, value.to_string()).unwrap();
        file.to_str().unwrap().to_owned()
    };
    for bits in [3, 31] {
        let task = own(&|spec| spec["frac_bits"] = bits.into());
        refused(create(&task, &[]), "frac");
    }
    let wide = own(&|spec| spec["frac_bits"] = 20.into());
    refused(create(&wide, &["--scheme", "pine32-hmac"]), "from 4 to 10");
    assert!(create(&own(&|_| {}), &[]).status.success());
    assert!(create("diabetes", &["--deadline", "0.001"]).status.code() == Some(3));
    let listed = mesh.json(&["task", "show", "own"]).unwrap();
    assert_eq!(listed["model"], "mlp");
}

#[test]
fn a_port_that_is_taken_is_named_with_the_reason_and_what_to_do() {
    let mesh = Mesh::start(&["--min-batch", "2"]);
    let done = defim()
        .args(["node", "run", "--config"])
        .arg(mesh.folder().join("full-1.toml"))
        .output()
        .unwrap();
    let said = text(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(
        said.contains("in use") && said.contains("choose another"),
        "{said}"
    );
}

#[test]
fn in_a_task_with_enrolment_only_members_and_enrolled_light_nodes_are_counted() {
    let init = [
        "--min-batch",
        "2",
        "--max-batch",
        "2",
        "--admission",
        "approved",
    ];
    let mesh = Mesh::start_changed(&init, |mesh| {
        for node in ["full-1", "full-2"] {
            let path = mesh.folder().join(format!("{node}.toml"));
            let config = std::fs::read_to_string(&path).unwrap();
            let silo = format!("silo = {:?}\n", mesh.sample());
            std::fs::write(&path, silo + &config).unwrap();
        }
    });
    // The silos are counted under their nodes' keys, and everybody sees under which ids.
    mesh.wait("a round is finished", |mesh| {
        mesh.task()["roundsDone"].as_u64().unwrap() >= 1
    });
    let last = mesh.task()["history"][0].clone();
    assert_eq!(
        (&last["outcome"], &last["reports"]),
        (&"finished".into(), &2.into())
    );
    let round = &last["round"];
    let mut listed = 0;
    for committee in 0..6 {
        let head = format!(
            "GET /api/v1/tasks/digits/rounds/{round}/artefacts/ids.{committee} HTTP/1.1\r\nConnection: close"
        );
        let got = answer(mesh.port, &head, b"");
        if status(&got) == "200" {
            let length = got.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                (name.eq_ignore_ascii_case("content-length")).then(|| value.trim().to_owned())
            });
            listed += length.unwrap().parse::<usize>().unwrap();
        }
    }
    assert_eq!(listed, 2 * 16);
    // Without a key, and with one that nobody has enrolled.
    let none = mesh.contribute(&[]);
    assert_eq!(none.status.code(), Some(2), "{}", text(&none.stderr));
    assert!(text(&none.stderr).contains("--key"));
    let file = mesh.folder().join("light.key");
    let key = file.to_str().unwrap();
    let stranger = mesh.contribute(&["--key", key, "--timeout", "3"]);
    assert!(!stranger.status.success());
    let made = std::fs::read_to_string(&file).unwrap();
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&file).unwrap());
        assert_eq!(mode & 0o777, 0o600);
    }
    let again = mesh.contribute(&["--key", key, "--timeout", "3"]);
    assert!(!again.status.success());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), made);
}
