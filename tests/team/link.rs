//! A link to a server that can be cut: bytes go through both ways until then, and connections are refused after.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// The writes of the journal that a link lets through when none is to be cut.
const ALL: usize = usize::MAX;

pub(super) struct Link {
    port: u16,
    /// How many writes of the journal still go through; the answer to the last of them does, too.
    left: Arc<AtomicUsize>,
}

impl Link {
    /// A link to `http://HOST:PORT`.
    pub(super) fn to(endpoint: &str) -> Self {
        let target = endpoint.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let left = Arc::new(AtomicUsize::new(ALL));
        let shared = Arc::clone(&left);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), target, left) = (client, target.clone(), Arc::clone(&shared))
                else {
                    return;
                };
                std::thread::spawn(move || carry(&client, &target, &left));
            }
        });
        Self { port, left }
    }

    pub(super) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Lets so many more writes of the journal through, and nothing after them.
    pub(super) fn cut_after(&self, writes: usize) {
        self.left.store(writes, Ordering::SeqCst);
    }

    pub(super) fn mend(&self) {
        self.left.store(ALL, Ordering::SeqCst);
    }
}

/// Carries one connection, request by request: the client sends one, and waits for the answer.
fn carry(client: &TcpStream, target: &str, left: &AtomicUsize) {
    if left.load(Ordering::SeqCst) == 0 {
        client.shutdown(Shutdown::Both).ok();
        return;
    }
    let Ok(server) = TcpStream::connect(target) else {
        return;
    };
    let (mut answers, mut back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let answering = std::thread::spawn(move || {
        std::io::copy(&mut answers, &mut back).ok();
        back.shutdown(Shutdown::Both).ok();
    });
    let (mut client, mut server) = (client, &server);
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = client.read(&mut buffer) {
        let bytes = &buffer[..length];
        let begins = bytes.starts_with(b"PUT ");
        let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or(bytes);
        let is_journal = begins && line.windows(9).any(|window| window == b"/journal/");
        let is_request = begins
            || [&b"GET "[..], b"POST ", b"DELETE "]
                .iter()
                .any(|verb| bytes.starts_with(verb));
        let now = left.load(Ordering::SeqCst);
        if is_request && now == 0 {
            break;
        }
        if is_journal && now != ALL {
            left.store(now - 1, Ordering::SeqCst);
        }
        if server.write_all(bytes).is_err() {
            break;
        }
    }
    client.shutdown(Shutdown::Both).ok();
    server.shutdown(Shutdown::Both).ok();
    answering.join().ok();
}
