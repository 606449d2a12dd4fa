//! A mesh of real processes in a temporary folder.
#![allow(dead_code, reason = "each test file uses a part")]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::Duration,
};

use serde_json::Value;

pub mod proxy;

pub const NODES: [&str; 8] = [
    "aggregation",
    "full-1",
    "full-2",
    "full-3",
    "validator-1",
    "validator-2",
    "validator-3",
    "validator-4",
];

pub struct Mesh {
    pub dir: tempfile::TempDir,
    pub port: u16,
    processes: BTreeMap<&'static str, Child>,
}

/// Ports that are free now; each node takes ten.
fn free_base() -> u16 {
    let start = (std::process::id() % 300) as u16;
    (0..300)
        .map(|step| 12_000 + ((start + step) % 300) * 80)
        .find(|base| {
            (0..NODES.len() as u16).all(|node| {
                (0..3).all(|port| {
                    let port = base + node * 10 + port;
                    TcpListener::bind(("127.0.0.1", port)).is_ok()
                        && UdpSocket::bind(("127.0.0.1", port)).is_ok()
                })
            })
        })
        .expect("free ports")
}

pub fn defim() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_defim"));
    command
        .stdin(Stdio::null())
        .env_remove("DEFIM_SITE")
        .env_remove("DEFIM_LOG");
    command
}

pub fn defim_with(args: &[&str]) -> Output {
    defim().args(args).output().expect("defim runs")
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Mesh {
    /// Set up and start all nodes.
    pub fn start(init: &[&str]) -> Self {
        Self::start_changed(init, |_| {})
    }

    /// Set up, change what was set up, and start all nodes.
    pub fn start_changed(init: &[&str], change: impl FnOnce(&Self)) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let port = free_base();
        let (base, folder) = (port.to_string(), dir.path().join("mesh"));
        let done = defim()
            .args(["node", "init", "--base-port", &base, "--dir"])
            .arg(&folder)
            .args(init)
            .output()
            .expect("defim runs");
        assert!(done.status.success(), "{}", text(&done.stderr));
        let mut mesh = Self {
            dir,
            port,
            processes: BTreeMap::new(),
        };
        let csv = text(defim_learn::builtin_csv("digits").expect("a built-in task"));
        let rows: Vec<_> = csv.lines().take(601).collect();
        fs::write(mesh.sample(), rows.join("\n")).expect("the sample is written");
        change(&mesh);
        for node in mesh.nodes() {
            mesh.run(node);
        }
        mesh.wait("all nodes are up", |mesh| {
            let nodes = mesh.json(&["node", "list"]);
            nodes.is_some_and(|list| {
                list["nodes"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .all(|n| n["reachable"] == true)
            })
        });
        mesh.wait("the first round is open", |mesh| {
            mesh.json(&["task", "show", "digits"])
                .is_some_and(|task| !task["round"].is_null())
        });
        mesh
    }

    /// The nodes that were set up.
    pub fn nodes(&self) -> Vec<&'static str> {
        let there = |node: &&str| self.folder().join(format!("{node}.toml")).exists();
        NODES.into_iter().filter(there).collect()
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn folder(&self) -> PathBuf {
        self.dir.path().join("mesh")
    }

    pub fn log(&self, node: &str) -> PathBuf {
        self.dir.path().join(format!("{node}.log"))
    }

    pub fn run(&mut self, node: &'static str) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log(node))
            .expect("a log");
        let child = defim()
            .args(["node", "run", "--config"])
            .arg(self.folder().join(format!("{node}.toml")))
            // Everything: what is not in this log is in no log.
            .env(
                "DEFIM_LOG",
                "trace,webrtc_sctp=off,sqlx=debug,quinn=info,hyper=info,h2=info",
            )
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("a node starts");
        self.processes.insert(node, child);
    }

    /// The process of a node.
    pub fn process(&self, node: &str) -> u32 {
        self.processes[node].id()
    }

    /// SIGKILL, as a power cut would.
    pub fn kill(&mut self, node: &'static str) {
        if let Some(mut child) = self.processes.remove(node) {
            child.kill().expect("a node is killed");
            child.wait().expect("a node ends");
        }
    }

    /// A command against this mesh, `--json`; its first line, if it succeeds.
    pub fn json(&self, args: &[&str]) -> Option<Value> {
        let done = self.call(args);
        done.status
            .success()
            .then(|| serde_json::from_str(text(&done.stdout).lines().next().unwrap()).unwrap())
    }

    pub fn call(&self, args: &[&str]) -> Output {
        defim()
            .args(args)
            .args(["--mesh", &self.url(), "--json"])
            .output()
            .expect("defim runs")
    }

    pub fn task(&self) -> Value {
        self.json(&["task", "show", "digits"])
            .expect("the task is shown")
    }

    pub fn wait(&self, what: &str, mut good: impl FnMut(&Self) -> bool) {
        for _ in 0..600 {
            if good(self) {
                return;
            }
            sleep(Duration::from_millis(100));
        }
        let logs: Vec<_> = NODES.iter().map(|node| tail(&self.log(node))).collect();
        panic!("not within a minute: {what}\n{}", logs.join("\n"));
    }

    /// 600 rows of digits, written once, by `start`: contributions of many threads read it.
    pub fn sample(&self) -> PathBuf {
        self.dir.path().join("digits.csv")
    }

    pub fn contribute(&self, more: &[&str]) -> Output {
        let sample = self.sample();
        let mut args = vec![
            "contribute",
            "--task",
            "digits",
            "--data",
            sample.to_str().unwrap(),
        ];
        args.extend(more);
        self.call(&args)
    }
}

fn tail(path: &Path) -> String {
    let log = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("defim")).collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

impl Drop for Mesh {
    fn drop(&mut self) {
        for node in NODES {
            self.kill(node);
        }
    }
}
