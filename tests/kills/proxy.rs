//! A proxy in front of a cloud that stops at the n-th request, for its client to be killed there.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use crate::faults::proxy::Request;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// When in the life of a request its client dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The request has left, and the cloud never sees it.
    Before,
    /// The cloud has done its work, and nothing of the answer arrives.
    After,
    /// Half of the answer has arrived.
    Body,
}

impl Moment {
    pub(crate) const ALL: [Self; 3] = [Self::Before, Self::After, Self::Body];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
            Self::Body => "body",
        }
    }
}

#[derive(Default)]
struct Traffic {
    /// Requests since the trap was set.
    count: usize,
    /// At the how manieth request, from 1, and when.
    trap: Option<(usize, Moment)>,
    /// Whether a request stands in the trap.
    caught: bool,
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

    /// Waits until `done`, at most as long as patience lasts; answers whether it came to that.
    fn wait(&self, limit: Duration, done: impl Fn(&Traffic) -> bool) -> bool {
        let waiting = self
            .changed
            .wait_timeout_while(self.traffic(), limit, |traffic| !done(traffic));
        let (traffic, _) = waiting.unwrap_or_else(PoisonError::into_inner);
        done(&traffic)
    }
}

/// A running proxy. It stops when it is dropped.
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// A proxy in front of the cloud at this base URL.
    pub(crate) fn start(base_url: &str) -> Self {
        let upstream = base_url.split('/').nth(2).unwrap().parse().unwrap();
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

    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/client/v4", self.address)
    }

    /// Counts from 0 again, and stops at a request where one is named.
    pub(crate) fn set(&self, trap: Option<(usize, Moment)>) {
        self.shared.change(|traffic| {
            traffic.count = 0;
            traffic.caught = false;
            traffic.trap = trap;
        });
    }

    /// Lets go what stands in the trap.
    pub(crate) fn release(&self) {
        self.shared.change(|traffic| traffic.trap = None);
    }

    /// Requests since the last [`Self::set`].
    pub(crate) fn count(&self) -> usize {
        self.shared.traffic().count
    }

    /// Whether a request stands in the trap, waiting for it at most this long.
    pub(crate) fn caught(&self, limit: Duration) -> bool {
        self.shared.wait(limit, |traffic| traffic.caught)
    }

    /// Waits until the cloud has done all that it was asked to.
    pub(crate) fn settle(&self) -> bool {
        self.shared.wait(PATIENCE, |traffic| traffic.active == 0)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.change(|traffic| {
            traffic.stopped = true;
            traffic.trap = None;
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
    let moment = {
        let mut traffic = shared.traffic();
        traffic.count += 1;
        let count = traffic.count;
        traffic
            .trap
            .and_then(|(nth, moment)| (nth == count).then_some(moment))
    };
    let stop = || {
        shared.change(|traffic| traffic.caught = true);
        shared.wait(PATIENCE, |traffic| traffic.trap.is_none());
    };
    if moment == Some(Moment::Before) {
        stop();
        return None;
    }
    let answer = request.forward(shared.upstream)?;
    match moment {
        Some(Moment::Body) => {
            stream.write_all(&answer[..answer.len() / 2]).ok()?;
            stop();
        }
        Some(_) => {
            stop();
            // To a client that was not killed after all.
            stream.write_all(&answer).ok()?;
        }
        None => stream.write_all(&answer).ok()?,
    }
    Some(())
}
