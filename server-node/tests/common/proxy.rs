//! A mesh between a person and the mesh, which does as it likes with what passes.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
};

/// What is done with a request.
pub enum Does {
    /// It goes on, and its answer comes back.
    Pass,
    /// It goes on, and its answer is lost.
    Lose,
    /// It goes nowhere.
    Cut,
    /// There is nothing, it is said.
    Deny,
}

/// Listen for the rest of the test; `does` is asked with the first line of each request. Returns the proxy's address.
pub fn proxy(mesh: &str, does: impl Fn(&str) -> Does + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mesh = mesh.trim_start_matches("http://").to_owned();
    let does = Arc::new(does);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (mesh, does) = (mesh.clone(), does.clone());
            thread::spawn(move || one(stream, &mesh, &*does));
        }
    });
    format!("http://{address}")
}

/// One request of a connection, which ends with it.
fn one(stream: TcpStream, mesh: &str, does: &dyn Fn(&str) -> Does) -> std::io::Result<()> {
    let mut from = BufReader::new(stream.try_clone()?);
    let (mut head, mut length) = (String::new(), 0);
    let mut first = String::new();
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        if first.is_empty() {
            first.clone_from(&line);
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" || line.is_empty() {
            break;
        }
        if !lower.starts_with("connection:") {
            head.push_str(&line);
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    let mut to = stream;
    let does = does(&first);
    match does {
        Does::Cut => return Ok(()),
        Does::Deny => {
            let answer = "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
            return to.write_all(answer.as_bytes());
        }
        Does::Pass | Does::Lose => {}
    }
    let mut onward = TcpStream::connect(mesh)?;
    write!(onward, "{head}Connection: close\r\n\r\n")?;
    onward.write_all(&body)?;
    let mut answer = Vec::new();
    onward.read_to_end(&mut answer)?;
    match does {
        Does::Lose => Ok(()),
        _ => to.write_all(&answer),
    }
}
