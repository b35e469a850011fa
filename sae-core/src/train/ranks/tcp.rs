//! Ranks that are connected by TCP, each with the first one, which adds up and passes on. No port is needed but that of the
//! first rank. Everything that another rank sends and receives passes through the first one once: for a few processes on machines
//! with a fast network.

use super::Ranks;
use super::rendezvous::{Rendezvous, connect};
use crate::{Error, Result};
use socket2::{SockRef, TcpKeepalive};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Numbers that are added up and passed on at a time.
const CHUNK: usize = 1 << 18;
/// When the system asks whether the machine at the other end is still there: after this time without data, and as often.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(10), 6);

/// Ranks that are connected with the first one.
///
/// A process that ends is noticed at once, a machine that vanishes after a minute and a half. For a slow process the others wait.
///
/// ```
/// use sae_core::train::ranks::{Ranks, Rendezvous, TcpRanks};
/// use std::time::Duration;
///
/// # let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
/// let sum = |rank: usize| {
///     let timeout = Duration::from_secs(10);
///     let rendezvous = Rendezvous { rank, count: 2, address: format!("127.0.0.1:{port}"), timeout };
///     let ranks = TcpRanks::connect(&rendezvous, b"an example", &mut || Ok(())).unwrap();
///     let mut values = [1.0, rank as f32];
///     ranks.all_reduce(&mut values).unwrap();
///     values
/// };
/// let sums = std::thread::scope(|scope| [0, 1].map(|rank| scope.spawn(move || sum(rank))).map(|rank| rank.join().unwrap()));
/// assert_eq!(sums, [[2.0, 1.0]; 2]);
/// ```
pub struct TcpRanks {
    rank: usize,
    count: usize,
    connections: Mutex<Connections>,
}

/// The connections of a rank.
struct Connections {
    rank: usize,
    /// Of the first rank, those to all others in their order; of others, the one to the first.
    peers: Vec<TcpStream>,
    /// The number of the next exchange.
    exchange: u64,
    /// Which rank is lost, and why. Nothing is exchanged after that.
    lost: Option<(usize, String)>,
}

/// What is exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    AllReduce = 1,
    AllGather = 2,
}

/// What comes before the data of an exchange: its kind and number, and how many bytes follow.
const HEADER: usize = 17;

impl TcpRanks {
    /// Connects to the other ranks, which must have the same `settings`. Calls `wait` again and again meanwhile.
    ///
    /// # Errors
    /// [`Error::LostRank`] if a rank did not connect in time; an address that cannot be used; ranks with other settings;
    /// an error of `wait`.
    pub fn connect(rendezvous: &Rendezvous, settings: &[u8], wait: &mut dyn FnMut() -> Result<()>) -> Result<Self> {
        let (rank, count) = (rendezvous.rank, rendezvous.count);
        let peers = connect(rendezvous, settings, wait)?;
        let (idle, every, times) = KEEPALIVE;
        let keepalive = TcpKeepalive::new().with_time(idle).with_interval(every).with_retries(times);
        for peer in &peers {
            let set = peer.set_nodelay(true).and(peer.set_nonblocking(false));
            let set = set.and(peer.set_read_timeout(None)).and(SockRef::from(peer).set_tcp_keepalive(&keepalive));
            set.map_err(|source| Error::config(format!("cannot use a connection to another process ({source})")))?;
        }
        Ok(Self { rank, count, connections: Mutex::new(Connections { rank, peers, exchange: 0, lost: None }) })
    }

    /// Checks that the connections are open, which a long computation of this rank does not see.
    ///
    /// # Errors
    /// [`Error::LostRank`] if another rank has ended.
    #[cfg(any(feature = "cuda", test))]
    pub(super) fn check(&self) -> Result<()> {
        let connections = &mut *self.connections();
        for peer in 0..connections.peers.len() {
            super::rendezvous::check_open(&connections.peers[peer])
                .map_err(|source| connections.lose(peer, &source))?;
        }
        Ok(())
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ranks for TcpRanks {
    fn rank(&self) -> usize {
        self.rank
    }

    fn count(&self) -> usize {
        self.count
    }

    fn all_reduce(&self, values: &mut [f32]) -> Result<()> {
        let connections = &mut *self.connections();
        connections.begin(Kind::AllReduce, size_of_val(values))?;
        let mut other = vec![0f32; CHUNK.min(values.len())];
        for chunk in values.chunks_mut(CHUNK) {
            if self.rank > 0 {
                connections.send(0, bytemuck::cast_slice(chunk))?;
                connections.receive(0, bytemuck::cast_slice_mut(chunk))?;
                continue;
            }
            let other = &mut other[..chunk.len()];
            for peer in 0..connections.peers.len() {
                connections.receive(peer, bytemuck::cast_slice_mut(other))?;
                chunk.iter_mut().zip(&*other).for_each(|(sum, v)| *sum += v);
            }
            for peer in 0..connections.peers.len() {
                connections.send(peer, bytemuck::cast_slice(chunk))?;
            }
        }
        Ok(())
    }

    fn all_gather(&self, local: &[u8]) -> Result<Vec<Vec<u8>>> {
        let connections = &mut *self.connections();
        let lens = connections.begin(Kind::AllGather, local.len())?;
        if self.rank > 0 {
            connections.send(0, local)?;
            return (0..self.count).map(|_| connections.receive_counted(0)).collect();
        }
        let mut all = vec![local.to_vec()];
        for (peer, len) in lens.into_iter().enumerate() {
            all.push(connections.receive_all(peer, len)?);
        }
        for peer in 0..connections.peers.len() {
            for bytes in &all {
                connections.send(peer, &(bytes.len() as u64).to_le_bytes())?;
                connections.send(peer, bytes)?;
            }
        }
        Ok(all)
    }
}

impl Connections {
    /// The error for what went wrong with a connection, from now on.
    fn lose(&mut self, peer: usize, source: &io::Error) -> Error {
        let rank = if self.rank == 0 { peer + 1 } else { 0 };
        let why = match source.kind() {
            ErrorKind::UnexpectedEof => "it ended".into(),
            ErrorKind::TimedOut => "its machine does not answer".into(),
            _ => source.to_string(),
        };
        self.lost = Some((rank, why.clone()));
        Error::LostRank { rank, cause: why }
    }

    fn send(&mut self, peer: usize, bytes: &[u8]) -> Result<()> {
        self.peers[peer].write_all(bytes).map_err(|source| self.lose(peer, &source))
    }

    fn receive(&mut self, peer: usize, bytes: &mut [u8]) -> Result<()> {
        self.peers[peer].read_exact(bytes).map_err(|source| self.lose(peer, &source))
    }

    /// Receives `len` bytes. No more memory is used than bytes have come.
    fn receive_all(&mut self, peer: usize, len: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = Read::take(&mut self.peers[peer], len).read_to_end(&mut bytes);
        let read = read.and_then(|n| if n as u64 == len { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) });
        read.map(|()| bytes).map_err(|source| self.lose(peer, &source))
    }

    /// Receives bytes whose number comes first.
    fn receive_counted(&mut self, peer: usize) -> Result<Vec<u8>> {
        let mut len = [0; 8];
        self.receive(peer, &mut len)?;
        self.receive_all(peer, u64::from_le_bytes(len))
    }

    /// Begins an exchange: the first rank sees that it is the same one on all ranks, and returns how many bytes each of the others
    /// will send.
    fn begin(&mut self, kind: Kind, len: usize) -> Result<Vec<u64>> {
        if let Some((rank, cause)) = self.lost.clone() {
            return Err(Error::LostRank { rank, cause });
        }
        let mut local = [0; HEADER];
        local[0] = kind as u8;
        local[1..9].copy_from_slice(&self.exchange.to_le_bytes());
        local[9..].copy_from_slice(&(len as u64).to_le_bytes());
        self.exchange += 1;
        if self.rank > 0 {
            return self.send(0, &local).map(|()| Vec::new());
        }
        let mut lens = Vec::with_capacity(self.peers.len());
        for peer in 0..self.peers.len() {
            let mut found = [0; HEADER];
            self.receive(peer, &mut found)?;
            let (same, len) = if kind == Kind::AllReduce { (HEADER, &[][..]) } else { (9, &found[9..]) };
            if found[..same] != local[..same] {
                let cause = "it takes part in another exchange than process 1".to_owned();
                self.lost = Some((peer + 1, cause.clone()));
                return Err(Error::LostRank { rank: peer + 1, cause });
            }
            let len = len.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            lens.push(len);
        }
        Ok(lens)
    }
}
