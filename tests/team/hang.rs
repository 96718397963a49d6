//! A server that stops answering: from a chosen request on it takes connections and requests, and says nothing, until it is
//! mended. Then it does, late, what it was asked to meanwhile, also for clients that are gone.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use crate::{faults::proxy::Request, interruption::PATIENCE};

/// Where it stops.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trap {
    /// How the request begins: its method.
    pub(super) method: &'static str,
    /// What is in its path.
    pub(super) part: &'static str,
    /// The how manieth such request, from 1.
    pub(super) nth: usize,
    /// Whether it is done, and only the answer is missing.
    pub(super) done: bool,
}

#[derive(Default)]
struct Traffic {
    trap: Option<Trap>,
    /// Requests so far that are like the one in the trap.
    like: usize,
    hangs: bool,
    /// Requests that are being served.
    active: usize,
    stopped: bool,
}

struct Shared {
    upstream: SocketAddr,
    traffic: Mutex<Traffic>,
    changed: Condvar,
}

impl Shared {
    fn traffic(&self) -> MutexGuard<'_, Traffic> {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Traffic)) {
        change(&mut self.traffic());
        self.changed.notify_all();
    }

    fn wait(&self, done: impl Fn(&Traffic) -> bool) -> bool {
        let waiting = self
            .changed
            .wait_timeout_while(self.traffic(), PATIENCE, |traffic| !done(traffic));
        let (traffic, _) = waiting.unwrap_or_else(PoisonError::into_inner);
        done(&traffic)
    }
}

/// A running proxy. It stops when it is dropped.
pub(super) struct Hang {
    shared: Arc<Shared>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Hang {
    /// In front of `http://HOST:PORT`, which answers through it until a trap is set.
    pub(super) fn before(endpoint: &str) -> Self {
        let upstream = endpoint.strip_prefix("http://").unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream,
            traffic: Mutex::default(),
            changed: Condvar::new(),
        });
        let accepting = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            std::thread::scope(|scope| {
                for stream in listener.incoming() {
                    if accepting.traffic().stopped {
                        return;
                    }
                    let shared = &accepting;
                    scope.spawn(move || {
                        shared.change(|traffic| traffic.active += 1);
                        // That a client goes away in the middle is what this is for.
                        stream.ok().and_then(|stream| serve(shared, stream));
                        shared.change(|traffic| traffic.active -= 1);
                    });
                }
            });
        });
        Self {
            shared,
            address,
            thread: Some(thread),
        }
    }

    pub(super) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops answering at a request to come.
    pub(super) fn set(&self, trap: Trap) {
        self.shared.change(|traffic| {
            traffic.trap = Some(trap);
            traffic.like = 0;
        });
    }

    /// Waits until it has stopped answering; answers whether it came to that.
    pub(super) fn caught(&self) -> bool {
        self.shared.wait(|traffic| traffic.hangs)
    }

    /// Answers again, and does what it was asked to meanwhile. Comes back when that is done.
    pub(super) fn mend(&self) {
        self.go_on();
        assert!(self.shared.wait(|traffic| traffic.active == 0));
    }

    /// Answers again.
    pub(super) fn go_on(&self) {
        self.shared.change(|traffic| {
            traffic.trap = None;
            traffic.hangs = false;
        });
    }
}

impl Drop for Hang {
    fn drop(&mut self) {
        self.shared.change(|traffic| {
            traffic.stopped = true;
            traffic.trap = None;
            traffic.hangs = false;
        });
        // Wakes the thread up; that it cannot be reached means that it has ended.
        TcpStream::connect(self.address).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn serve(shared: &Shared, mut stream: TcpStream) -> Option<()> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let request = Request::read(&stream)?;
    let line = request.line();
    let mut done_first = false;
    shared.change(|traffic| {
        let Some(trap) = traffic.trap else { return };
        if !line.starts_with(trap.method) || !line.contains(trap.part) || traffic.hangs {
            return;
        }
        traffic.like += 1;
        if traffic.like == trap.nth {
            done_first = trap.done;
            traffic.hangs = !trap.done;
        }
    });
    if done_first {
        let answer = request.forward(shared.upstream)?;
        shared.change(|traffic| traffic.hangs = true);
        shared.wait(|traffic| !traffic.hangs);
        return stream.write_all(&answer).ok();
    }
    shared.wait(|traffic| !traffic.hangs);
    let answer = request.forward(shared.upstream)?;
    stream.write_all(&answer).ok()
}
