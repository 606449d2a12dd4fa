//! `up`: everything built, then a whole mesh in the foreground.

use std::env;
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::places::Places;
use crate::process;
use crate::setup::{self, find_program};
use crate::web;

/// Where `defim up` listens unless told otherwise.
const LISTEN: &str = "127.0.0.1:8080";

/// A first start makes keys and a genesis block; anything slower than this is stuck.
const PATIENCE: Duration = Duration::from_secs(120);

/// Builds and starts the mesh. Returns only if that failed, or where a process cannot be replaced.
pub fn run(places: &Places, headless: bool, args: &[String]) -> Result<()> {
    setup::run(places, setup::For::Pages)?;
    web::build(places, None)?;
    build_server(places, false)?;
    announce_later(address(args), !headless && has_display())?;
    let mut defim = places.command(places.defim());
    defim.arg("up").arg("--web").arg(places.site()).args(args);
    become_it(&mut defim)
}

/// Builds the server with the features the whole workspace asks for; `with_tests` adds what its tests ask
/// for. The same selection as another command's means that no dependency is built a second time.
pub fn build_server(places: &Places, with_tests: bool) -> Result<()> {
    let mut cargo = places.cargo();
    cargo.args(["build", "--release", "--workspace", "--bin", "defim"]);
    if with_tests {
        cargo.arg("--tests");
    }
    process::run(&mut cargo)
}

/// Replaces this process, so that Ctrl-C and signals reach the mesh itself and nothing else.
#[cfg(unix)]
fn become_it(defim: &mut Command) -> Result<()> {
    use std::os::unix::process::CommandExt as _;
    Err(defim.exec()).context("starting defim; was it built?")
}

#[cfg(not(unix))]
fn become_it(defim: &mut Command) -> Result<()> {
    process::run(defim)
}

/// The address a person types, from the arguments that go to `defim up`.
fn address(args: &[String]) -> String {
    let mut listen = None;
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == "--listen" {
            listen = rest.next().map(String::as_str);
        } else if let Some(value) = arg.strip_prefix("--listen=") {
            listen = Some(value);
        }
    }
    let listen = listen.unwrap_or(LISTEN);
    // A wildcard is an address to listen on, not one to visit.
    listen
        .replace("0.0.0.0:", "127.0.0.1:")
        .replace("[::]:", "[::1]:")
}

fn has_display() -> bool {
    cfg!(target_os = "macos")
        || ["DISPLAY", "WAYLAND_DISPLAY"]
            .iter()
            .any(|name| env::var_os(name).is_some_and(|value| !value.is_empty()))
}

/// Starts a process that outlives this one: this one becomes the mesh.
fn announce_later(address: String, open: bool) -> Result<()> {
    let mut announce = Command::new(env::current_exe()?);
    announce.args(["announce", "--detach", "--address", &address]);
    announce.args(["--pid", &std::process::id().to_string()]);
    if open {
        announce.arg("--open");
    }
    process::run(&mut announce)
}

/// Arguments of the hidden command that waits for the mesh.
#[derive(clap::Args)]
pub struct Announce {
    #[arg(long)]
    address: String,
    /// The mesh's process: nothing is announced once it is gone.
    #[arg(long)]
    pid: u32,
    #[arg(long)]
    open: bool,
    /// Start the waiting process and return.
    #[arg(long)]
    detach: bool,
}

impl Announce {
    /// Waits for the mesh's health and prints the page's address.
    pub fn run(&self, places: &Places) -> Result<()> {
        if self.detach {
            // Started by a process that ends at once, the waiting one is nobody's zombie later.
            let mut again = Command::new(env::current_exe()?);
            again.args(["announce", "--address", &self.address]);
            again.args(["--pid", &self.pid.to_string()]);
            if self.open {
                again.arg("--open");
            }
            again.stdin(Stdio::null()).spawn()?;
            return Ok(());
        }
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if !alive(self.pid) {
                return Ok(());
            }
            if healthy(&self.address) {
                let url = format!("http://{}/", self.address);
                println!("\nThe mesh is up: {url}");
                if self.open {
                    open_page(places, &url);
                }
                return Ok(());
            }
            thread::sleep(Duration::from_millis(200));
        }
        bail!(
            "http://{}/api/v1/health did not answer 200 within {} s; the lines above may say why",
            self.address,
            PATIENCE.as_secs()
        );
    }
}

fn alive(pid: u32) -> bool {
    let proc = Path::new("/proc");
    !proc.join("self").exists() || proc.join(pid.to_string()).exists()
}

fn healthy(address: &str) -> bool {
    health_status(address).is_some_and(|status| status == 200)
}

/// One plain HTTP request: a client crate would be most of this program's build time.
fn health_status(address: &str) -> Option<u16> {
    let socket = address.to_socket_addrs().ok()?.next()?;
    let wait = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&socket, wait).ok()?;
    stream.set_read_timeout(Some(wait)).ok()?;
    stream.set_write_timeout(Some(wait)).ok()?;
    let request =
        format!("GET /api/v1/health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    let head = std::str::from_utf8(&head).ok()?;
    head.strip_prefix("HTTP/1.1 ")?.parse().ok()
}

fn open_page(places: &Places, url: &str) {
    let opener = if cfg!(target_os = "macos") {
        "open"
    } else {
        "xdg-open"
    };
    if find_program(opener).is_some() {
        process::works(places.command(opener).arg(url));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn args(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_announced_address_follows_the_arguments() {
        assert_eq!(address(&[]), "127.0.0.1:8080");
        assert_eq!(
            address(&args("--data x --listen 127.0.0.1:9000")),
            "127.0.0.1:9000"
        );
        assert_eq!(address(&args("--listen=0.0.0.0:80")), "127.0.0.1:80");
    }

    #[test]
    fn health_is_the_status_the_server_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let server = thread::spawn(move || {
            for status in ["503 Service Unavailable", "200 OK"] {
                let (mut stream, _) = listener.accept().expect("a request");
                let mut seen = [0; 24];
                stream.read_exact(&mut seen).expect("its first bytes");
                assert!(seen.starts_with(b"GET /api/v1/health HTTP"));
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).expect("answered");
            }
        });
        assert_eq!(health_status(&address), Some(503));
        assert_eq!(health_status(&address), Some(200));
        server.join().expect("served");
        assert_eq!(health_status(&address), None);
    }
}
