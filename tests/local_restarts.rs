//! New versions of a Worker under load: the process that runs them is another one each time, and no request is lost.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
    time::Duration,
};

use crate::support::{
    Project,
    served::{Served, multipart, request, with_runtime},
};

const REDEPLOYS: usize = 6;
const STRANGERS: usize = 12;
const REGULARS: usize = 2;

fn version(text: &str) -> String {
    let code = format!("export default {{ fetch() {{ return new Response('{text}') }} }}");
    multipart(&[
        (
            "metadata",
            "application/json",
            r#"{"main_module":"index.js","compatibility_date":"2026-07-01"}"#,
        ),
        ("index.js", "application/javascript+module", &code),
    ])
}

/// Ends the asking, also when a version does not come.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// A client that keeps its connection, and asks once more on a new one when that was closed before any answer, as all do.
struct Regular {
    port: u16,
    connection: Option<BufReader<TcpStream>>,
}

impl Regular {
    fn ask(&mut self) {
        let kept = self.connection.take();
        let answered = kept.and_then(|kept| Self::ask_on(kept, self.port));
        let fresh = || {
            let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(60)))
                .unwrap();
            Self::ask_on(BufReader::new(stream), self.port).expect("an answer on a new connection")
        };
        self.connection = Some(answered.unwrap_or_else(fresh));
    }

    /// The connection after a good answer; none when there was not a byte of one.
    fn ask_on(mut connection: BufReader<TcpStream>, port: u16) -> Option<BufReader<TcpStream>> {
        let text = format!("GET / HTTP/1.1\r\nhost: api.localhost:{port}\r\n\r\n");
        connection.get_mut().write_all(text.as_bytes()).ok()?;
        let mut line = String::new();
        if matches!(connection.read_line(&mut line), Ok(0) | Err(_)) {
            return None;
        }
        assert!(line.contains(" 200 "), "{line}");
        let mut length = 0;
        while line != "\r\n" {
            line.clear();
            assert_ne!(connection.read_line(&mut line).unwrap(), 0);
            if let Some(size) = line.to_lowercase().strip_prefix("content-length: ") {
                length = size.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        connection.read_exact(&mut body).unwrap();
        Some(connection)
    }
}

#[test]
fn no_request_is_lost_while_versions_change_under_load() {
    let Some(project) = with_runtime(Project::new()) else {
        return;
    };
    let served = Served::start(&project);
    served.upload("PUT", "workers/scripts/api", &version("0"));
    served.ask_until("api", "/", |_, body| body == "0");
    let port = served.port;
    let over = AtomicBool::new(false);
    let answers = AtomicUsize::new(0);
    // Asks for as long as the versions change. A panic ends it and with it the test.
    let until_over = |mut ask: Box<dyn FnMut()>| {
        while !over.load(Relaxed) {
            ask();
            answers.fetch_add(1, Relaxed);
        }
    };
    thread::scope(|scope| {
        let until_over = &until_over;
        for _ in 0..STRANGERS {
            scope.spawn(move || {
                let host = format!("api.localhost:{port}");
                until_over(Box::new(move || {
                    let headers = [("host", host.as_str()), ("connection", "close")];
                    let (status, body) = request(port, "GET", "/", &headers, "");
                    assert_eq!(status, 200, "{body}");
                }));
            });
        }
        for _ in 0..REGULARS {
            scope.spawn(move || {
                let connection = None;
                let mut regular = Regular { port, connection };
                until_over(Box::new(move || regular.ask()));
            });
        }
        scope.spawn(|| {
            let _end = End(&over);
            for number in 1..=REDEPLOYS {
                let text = number.to_string();
                served.upload("PUT", "workers/scripts/api", &version(&text));
                served.ask_until("api", "/", |_, body| body == text);
            }
        });
    });
    assert!(answers.load(Relaxed) > STRANGERS + REGULARS);
}
