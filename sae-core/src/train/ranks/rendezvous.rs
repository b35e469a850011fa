//! How ranks find each other: the first one listens, the others connect to it and send the settings that they were started with.
//! Nothing else is exchanged.

use crate::error::{Cause, Hint};
use crate::{Error, Result};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// What begins every connection: other programs that connect are ignored.
const MAGIC: [u8; 16] = *b"sae-core ranks 1";
/// How often a rank tries to reach the first one, and how often that one looks for ranks.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How long one try to reach the first rank may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a new connection may take to send its handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that the settings of a rank may have.
const SETTINGS_LIMIT: usize = 1 << 20;

/// Where ranks connect to each other, and how long they wait there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendezvous {
    /// Which of the ranks this is, from 0.
    pub rank: usize,
    /// The number of ranks.
    pub count: usize,
    /// Host and port of the first rank, such as `node-1:29400`.
    pub address: String,
    /// How long a rank waits.
    pub timeout: Duration,
}

/// The connections to the other ranks: of the first rank to all others, in their order; of another one to the first.
pub(super) fn connect(
    rendezvous: &Rendezvous,
    settings: &[u8],
    wait: &mut dyn FnMut() -> Result<()>,
) -> Result<Vec<TcpStream>> {
    let port =
        rendezvous.address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    let Some(Ok(port)) = port else {
        let advice = Hint::from("name the machine of process 1 and a free port there, as in node-1:29400");
        return Err(rendezvous.error(Cause::with_hint("expected the host and port of a rendezvous", advice)));
    };
    if rendezvous.rank >= rendezvous.count || settings.len() > SETTINGS_LIMIT {
        return Err(rendezvous.error("there is no such process, or its settings are longer than 1 MiB"));
    }
    let until = Instant::now().checked_add(rendezvous.timeout);
    let mut wait = || match until {
        Some(until) if Instant::now() > until => Ok(false),
        _ => wait().map(|()| true),
    };
    match rendezvous.rank {
        0 => rendezvous.receive(port, settings, &mut wait),
        _ => rendezvous.reach(settings, &mut wait).map(|first| vec![first]),
    }
}

/// Waits a little; false if there is no time left.
type Wait<'a> = &'a mut dyn FnMut() -> Result<bool>;

impl Rendezvous {
    fn error(&self, cause: impl Into<Cause>) -> Error {
        let Cause { text, hint } = cause.into();
        let (rank, count) = (self.rank + 1, self.count);
        Error::Config(Cause { text: format!("process {rank} of {count}: {text}: {}", self.address), hint })
    }

    /// The first rank waits for all others. One that does not fit is told why, and the first one goes on waiting.
    fn receive(&self, port: u16, settings: &[u8], wait: Wait) -> Result<Vec<TcpStream>> {
        let listener = self.listen(port).map_err(|source| {
            let advice = Hint::from("name this machine and a free port");
            self.error(Cause::with_hint(format!("cannot listen for the others ({source})"), advice))
        })?;
        let mut peers: Vec<Option<TcpStream>> = (1..self.count).map(|_| None).collect();
        let (mut pending, mut rejected) = (Vec::<PendingConnection>::new(), None);
        while let Some(missing) = peers.iter().position(Option::is_none) {
            if !wait()? {
                let cause = match rejected {
                    Some(rejected) => rejected,
                    None => format!("it did not connect to {} within {} s", self.address, self.timeout.as_secs()),
                };
                return Err(Error::LostRank { rank: missing + 1, cause });
            }
            let before = pending.len();
            pending.extend(listener.accept().ok().and_then(|(peer, _)| PendingConnection::new(peer)));
            if pending.len() == before {
                std::thread::sleep(POLL_INTERVAL);
            }
            for mut connection in std::mem::take(&mut pending) {
                let handshake = match connection.read() {
                    Received::Nothing => continue,
                    Received::Part => {
                        pending.push(connection);
                        continue;
                    }
                    Received::All(handshake) => handshake,
                };
                match self.slot(&handshake, settings, &mut peers) {
                    Ok(slot) => *slot = Some(connection.peer),
                    Err(cause) => {
                        send_answer(&mut connection.peer, &cause);
                        rejected = Some(cause);
                    }
                }
            }
        }
        let mut peers: Vec<TcpStream> = peers.into_iter().flatten().collect();
        peers.iter_mut().for_each(|peer| send_answer(peer, ""));
        Ok(peers)
    }

    /// Listens at a port, on this machine alone if the address is of that kind.
    fn listen(&self, port: u16) -> io::Result<TcpListener> {
        let named = self.address.to_socket_addrs()?.next().ok_or(ErrorKind::AddrNotAvailable)?;
        // Some systems give a machine's own name a loopback address that other machines cannot reach.
        let is_local = self.address.starts_with("localhost:") || self.address.parse::<SocketAddr>().is_ok();
        let any = if named.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let listener = TcpListener::bind(if is_local { named } else { SocketAddr::new(any, port) })?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    /// The slot of a rank, or why it does not fit.
    fn slot<'a>(
        &self,
        other: &Handshake,
        settings: &[u8],
        peers: &'a mut [Option<TcpStream>],
    ) -> Result<&'a mut Option<TcpStream>, String> {
        let rejected = |why: String| Err(format!("process {} was rejected: {why}", other.rank.saturating_add(1)));
        if other.count != self.count as u64 {
            return rejected(format!("it was started as one of {} processes", other.count));
        }
        let slot = usize::try_from(other.rank).ok().and_then(|rank| peers.get_mut(rank.checked_sub(1)?));
        let Some(slot) = slot else { return rejected("there is no such process".into()) };
        if slot.as_ref().is_some_and(|peer| check_open(peer).is_ok()) {
            return rejected("it was started twice".into());
        }
        if other.settings != settings {
            return rejected(difference(&other.settings, settings));
        }
        Ok(slot)
    }

    /// Another rank tries until the first one is there, and waits until all are.
    fn reach(&self, settings: &[u8], wait: Wait) -> Result<TcpStream> {
        let handshake = Handshake { rank: self.rank as u64, count: self.count as u64, settings: settings.to_vec() };
        let (mut connected, mut why) = (None, String::from("no answer"));
        while wait()? {
            let Some(peer) = &mut connected else {
                match self.connect(&handshake) {
                    Ok(peer) => connected = Some(peer),
                    Err(source) => {
                        why = source.to_string();
                        std::thread::sleep(POLL_INTERVAL);
                    }
                }
                continue;
            };
            match read_answer(peer) {
                Ok(None) => {}
                Ok(Some(rejected)) if !rejected.is_empty() => return Err(self.error(rejected)),
                Ok(Some(_)) => return connected.ok_or_else(|| self.error("no connection")),
                Err(source) => {
                    let cause = format!("it ended before all processes had connected ({source})");
                    return Err(Error::LostRank { rank: 0, cause });
                }
            }
        }
        let cause = format!("it could not be reached at {} within {} s ({why})", self.address, self.timeout.as_secs());
        Err(Error::LostRank { rank: 0, cause })
    }

    /// A connection to the first rank, if it listens, on which this one has sent its handshake.
    fn connect(&self, handshake: &Handshake) -> io::Result<TcpStream> {
        let mut last = ErrorKind::AddrNotAvailable.into();
        for address in self.address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                // A port that nobody listens at may be connected with itself.
                Ok(peer) if peer.local_addr()? == peer.peer_addr()? => {}
                Ok(mut peer) => {
                    peer.set_read_timeout(Some(POLL_INTERVAL))?;
                    handshake.write(&mut peer)?;
                    return Ok(peer);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// A connection whose handshake is not complete yet.
struct PendingConnection {
    peer: TcpStream,
    bytes: Vec<u8>,
    since: Instant,
}

/// What a connection has sent so far.
enum Received {
    /// It is not a rank, or it is closed.
    Nothing,
    Part,
    All(Handshake),
}

impl PendingConnection {
    fn new(peer: TcpStream) -> Option<Self> {
        peer.set_nonblocking(true).ok()?;
        Some(Self { peer, bytes: Vec::new(), since: Instant::now() })
    }

    fn read(&mut self) -> Received {
        let mut buffer = [0; 4096];
        loop {
            match self.peer.read(&mut buffer) {
                Ok(0) => return Received::Nothing,
                Ok(n) => self.bytes.extend(&buffer[..n]),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock && self.since.elapsed() < HANDSHAKE_TIMEOUT => {
                    return Received::Part;
                }
                Err(_) => return Received::Nothing,
            }
            let is_rank = self.bytes.iter().zip(&MAGIC).all(|(found, expected)| found == expected);
            match Handshake::parse(&self.bytes) {
                _ if !is_rank || self.bytes.len() > Handshake::HEADER + SETTINGS_LIMIT => return Received::Nothing,
                Some(handshake) => {
                    // Later reads block.
                    let ready = self.peer.set_nonblocking(false);
                    return if ready.is_ok() { Received::All(handshake) } else { Received::Nothing };
                }
                None => {}
            }
        }
    }
}

/// What a rank sends first.
struct Handshake {
    rank: u64,
    count: u64,
    settings: Vec<u8>,
}

impl Handshake {
    /// Bytes before the settings.
    const HEADER: usize = MAGIC.len() + 24;

    fn write(&self, to: &mut TcpStream) -> io::Result<()> {
        let mut bytes = MAGIC.to_vec();
        for number in [self.rank, self.count, self.settings.len() as u64] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(&self.settings);
        to.write_all(&bytes)
    }

    /// Nothing if it is not complete.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (header, settings) = bytes.split_at_checked(Self::HEADER)?;
        let numbers = header[MAGIC.len()..].as_chunks().0;
        let [rank, count, len] = numbers else { return None };
        let [rank, count, len] = [rank, count, len].map(|bytes| u64::from_le_bytes(*bytes));
        let settings = settings.get(..usize::try_from(len).ok()?)?;
        Some(Self { rank, count, settings: settings.to_vec() })
    }
}

/// An error if the other end has closed a connection. Data that was received and not read yet stays.
pub(super) fn check_open(peer: &TcpStream) -> io::Result<()> {
    peer.set_nonblocking(true)?;
    let found = peer.peek(&mut [0]);
    peer.set_nonblocking(false)?;
    match found {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ => Ok(()),
    }
}

/// Tells a rank that all have connected, or why it is rejected. One that has ended meanwhile is noticed later.
fn send_answer(peer: &mut TcpStream, rejected: &str) {
    let text = &rejected.as_bytes()[..rejected.len().min(usize::from(u16::MAX))];
    let _ = peer.write_all(&[&(text.len() as u16).to_le_bytes(), text].concat());
}

/// Why the first rank rejects this one, empty if it does not; nothing if it has not answered yet.
fn read_answer(peer: &mut TcpStream) -> io::Result<Option<String>> {
    let mut len = [0; 2];
    match peer.peek(&mut len) {
        Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
        Ok(1) => return Ok(None),
        Ok(_) => {}
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => return Ok(None),
            _ => return Err(error),
        },
    }
    peer.set_read_timeout(Some(HANDSHAKE_TIMEOUT))?;
    peer.read_exact(&mut len)?;
    let mut text = vec![0; usize::from(u16::from_le_bytes(len))];
    peer.read_exact(&mut text)?;
    Ok(Some(String::from_utf8_lossy(&text).into_owned()))
}

/// The first line in which two settings differ.
fn difference(found: &[u8], expected: &[u8]) -> String {
    let [found, expected] = [found, expected].map(String::from_utf8_lossy);
    let pair = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    let (found, expected) = pair.unwrap_or(("other settings", "those of process 1"));
    format!("expected {expected:.300}, found {found:.300}")
}
