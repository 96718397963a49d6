//! Keeps new connections away from a process that is to stop.
//!
//! `workerd` goes on accepting until a moment comes at which no connection is open, which under load may never be; then it
//! is killed in the middle of requests. So the listening socket, which it shares with this program, takes no new
//! connection while it finishes: the first packet of each is dropped, and the system of whoever knocks knocks again, after
//! a second on Linux. Nobody is refused. Only Linux can do that; elsewhere the gate stays open.

use std::net::TcpListener;

/// Closed for as long as this lives.
#[derive(Debug)]
pub(super) struct Gate<'a> {
    listener: Option<&'a TcpListener>,
}

impl<'a> Gate<'a> {
    /// Closes the gate. Where that is not possible it stays open, and a stop under load may cut requests off.
    pub(super) fn close(listener: &'a TcpListener) -> Self {
        match system::close(listener) {
            Ok(()) => Self {
                listener: Some(listener),
            },
            Err(error) => {
                tracing::debug!("new connections go to the process that is to stop: {error}");
                Self { listener: None }
            }
        }
    }
}

impl Drop for Gate<'_> {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.listener.map(system::open) {
            tracing::error!("the port of the Workers takes no new connections: {error}");
        }
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::{io, net::TcpListener};

    use socket2::{SockFilter, SockRef};

    /// The byte of a TCP header with the flags (RFC 9293, 3.1), and two of these.
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    /// Instructions of the packet filter, from the kernel's `linux/filter.h`.
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;

    /// Drops what opens a connection. Connections that are open inherit it, and have no such packets.
    pub(super) fn close(listener: &TcpListener) -> io::Result<()> {
        SockRef::from(listener).attach_filter(&[
            SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
            SockFilter::new(AND, 0, 0, SYN | ACK),
            SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
            SockFilter::new(RETURN, 0, 0, 0),
            SockFilter::new(RETURN, 0, 0, u32::MAX),
        ])
    }

    pub(super) fn open(listener: &TcpListener) -> io::Result<()> {
        SockRef::from(listener).detach_filter()
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::{io, net::TcpListener};

    pub(super) fn close(_: &TcpListener) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn open(_: &TcpListener) -> io::Result<()> {
        Ok(())
    }
}
