//! How ranks find each other: the first one listens, the others come to it and say what they were started for. Exchanges nothing
//! else.

use crate::error::{Cause, Hint};
use crate::{Error, Result};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// What begins every connection: other programs that connect are ignored.
const GREETING: [u8; 16] = *b"sae-core ranks 1";
/// How often a rank tries to reach the first one, and how often that one looks for ranks.
const TICK: Duration = Duration::from_millis(20);
/// How long one try to reach the first rank may take.
const CONNECTION: Duration = Duration::from_secs(2);
/// How long a new connection may take to say who it is.
const INTRODUCTION: Duration = Duration::from_secs(10);
/// Bytes of the longest description of what ranks do.
const TOPIC_LIMIT: usize = 1 << 20;

/// Where ranks meet, and how long they wait for each other there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meeting {
    /// Which of the ranks this is, from 0.
    pub rank: usize,
    /// The number of ranks.
    pub count: usize,
    /// Host and port of the first rank, such as `node-1:29400`.
    pub address: String,
    /// How long a rank waits.
    pub patience: Duration,
}

/// The connections to the other ranks: of the first rank to all others, in their order; of another one to the first.
pub(super) fn meet(meeting: &Meeting, topic: &[u8], wait: &mut dyn FnMut() -> Result<()>) -> Result<Vec<TcpStream>> {
    let port =
        meeting.address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    let Some(Ok(port)) = port else {
        let advice = Hint::from("name the machine of the first rank and a free port there, as in node-1:29400");
        return Err(meeting.error(Cause::with_hint("expected host and port of a meeting", advice)));
    };
    if meeting.rank >= meeting.count || topic.len() > TOPIC_LIMIT {
        return Err(meeting.error("there is no such rank, or what it does takes too many words"));
    }
    let until = Instant::now().checked_add(meeting.patience);
    let mut wait = || match until {
        Some(until) if Instant::now() > until => Ok(false),
        _ => wait().map(|()| true),
    };
    match meeting.rank {
        0 => meeting.receive(port, topic, &mut wait),
        _ => meeting.reach(topic, &mut wait).map(|first| vec![first]),
    }
}

/// Waits a little; false if there is no time left.
type Wait<'a> = &'a mut dyn FnMut() -> Result<bool>;

impl Meeting {
    fn error(&self, cause: impl Into<Cause>) -> Error {
        let Cause { text, hint } = cause.into();
        let (rank, count) = (self.rank + 1, self.count);
        Error::Config(Cause { text: format!("rank {rank} of {count}: {text}: {}", self.address), hint })
    }

    /// The first rank waits for all others. One that does not fit is told why, and awaited again.
    fn receive(&self, port: u16, topic: &[u8], wait: Wait) -> Result<Vec<TcpStream>> {
        let listener = self.listen(port).map_err(|source| {
            let advice = Hint::from("name this machine and a free port");
            self.error(Cause::with_hint(format!("cannot wait for the others ({source})"), advice))
        })?;
        let mut peers: Vec<Option<TcpStream>> = (1..self.count).map(|_| None).collect();
        let (mut guests, mut refused) = (Vec::<Guest>::new(), None);
        while let Some(missing) = peers.iter().position(Option::is_none) {
            if !wait()? {
                let cause = match refused {
                    Some(refused) => refused,
                    None => format!("it has not come to {} within {} s", self.address, self.patience.as_secs()),
                };
                return Err(Error::LostRank { rank: missing + 2, cause });
            }
            let before = guests.len();
            guests.extend(listener.accept().ok().and_then(|(peer, _)| Guest::new(peer)));
            if guests.len() == before {
                std::thread::sleep(TICK);
            }
            for mut guest in std::mem::take(&mut guests) {
                let introduction = match guest.listen() {
                    Heard::Nothing => continue,
                    Heard::Part => {
                        guests.push(guest);
                        continue;
                    }
                    Heard::All(introduction) => introduction,
                };
                match self.place(&introduction, topic, &mut peers) {
                    Ok(place) => *place = Some(guest.peer),
                    Err(cause) => {
                        answer(&mut guest.peer, &cause);
                        refused = Some(cause);
                    }
                }
            }
        }
        let mut peers: Vec<TcpStream> = peers.into_iter().flatten().collect();
        peers.iter_mut().for_each(|peer| answer(peer, ""));
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

    /// Where a rank belongs, or why it does not fit.
    fn place<'a>(
        &self,
        other: &Introduction,
        topic: &[u8],
        peers: &'a mut [Option<TcpStream>],
    ) -> Result<&'a mut Option<TcpStream>, String> {
        let refused = |why: String| Err(format!("rank {} does not fit: {why}", other.rank.saturating_add(1)));
        if other.count != self.count as u64 {
            return refused(format!("it was started as one of {} ranks", other.count));
        }
        let place = usize::try_from(other.rank).ok().and_then(|rank| peers.get_mut(rank.checked_sub(1)?));
        let Some(place) = place else { return refused("there is no such rank".into()) };
        if place.as_ref().is_some_and(is_connected) {
            return refused("it was started twice".into());
        }
        if other.topic != topic {
            return refused(difference(&other.topic, topic));
        }
        Ok(place)
    }

    /// Another rank tries until the first one is there, and waits until all are.
    fn reach(&self, topic: &[u8], wait: Wait) -> Result<TcpStream> {
        let introduction = Introduction { rank: self.rank as u64, count: self.count as u64, topic: topic.to_vec() };
        let (mut connected, mut why) = (None, String::from("no answer"));
        while wait()? {
            let Some(peer) = &mut connected else {
                match self.connect(&introduction) {
                    Ok(peer) => connected = Some(peer),
                    Err(source) => {
                        why = source.to_string();
                        std::thread::sleep(TICK);
                    }
                }
                continue;
            };
            match heard(peer) {
                Ok(None) => {}
                Ok(Some(refused)) if !refused.is_empty() => return Err(self.error(refused)),
                Ok(Some(_)) => return connected.ok_or_else(|| self.error("no connection")),
                Err(source) => {
                    let cause = format!("it has ended before all ranks were there ({source})");
                    return Err(Error::LostRank { rank: 1, cause });
                }
            }
        }
        let cause = format!("it cannot be reached at {} within {} s ({why})", self.address, self.patience.as_secs());
        Err(Error::LostRank { rank: 1, cause })
    }

    /// A connection to the first rank, if it is there, to which this one has introduced itself.
    fn connect(&self, introduction: &Introduction) -> io::Result<TcpStream> {
        let mut last = ErrorKind::AddrNotAvailable.into();
        for address in self.address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECTION) {
                // A port that nobody listens at may be connected with itself.
                Ok(peer) if peer.local_addr()? == peer.peer_addr()? => {}
                Ok(mut peer) => {
                    peer.set_read_timeout(Some(TICK))?;
                    introduction.write(&mut peer)?;
                    return Ok(peer);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// A connection that has not said everything yet.
struct Guest {
    peer: TcpStream,
    said: Vec<u8>,
    since: Instant,
}

/// What a guest has said so far.
enum Heard {
    /// It is no rank, or it has left.
    Nothing,
    Part,
    All(Introduction),
}

impl Guest {
    fn new(peer: TcpStream) -> Option<Self> {
        peer.set_nonblocking(true).ok()?;
        Some(Self { peer, said: Vec::new(), since: Instant::now() })
    }

    fn listen(&mut self) -> Heard {
        let mut bytes = [0; 4096];
        loop {
            match self.peer.read(&mut bytes) {
                Ok(0) => return Heard::Nothing,
                Ok(n) => self.said.extend(&bytes[..n]),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock && self.since.elapsed() < INTRODUCTION => {
                    return Heard::Part;
                }
                Err(_) => return Heard::Nothing,
            }
            let is_rank = self.said.iter().zip(&GREETING).all(|(said, expected)| said == expected);
            match Introduction::parse(&self.said) {
                _ if !is_rank || self.said.len() > Introduction::HEADER + TOPIC_LIMIT => return Heard::Nothing,
                Some(introduction) => {
                    // What is said later, a rank waits for.
                    let ready = self.peer.set_nonblocking(false);
                    return if ready.is_ok() { Heard::All(introduction) } else { Heard::Nothing };
                }
                None => {}
            }
        }
    }
}

/// What a rank says of itself.
struct Introduction {
    rank: u64,
    count: u64,
    topic: Vec<u8>,
}

impl Introduction {
    /// Bytes before the topic.
    const HEADER: usize = GREETING.len() + 24;

    fn write(&self, to: &mut TcpStream) -> io::Result<()> {
        let mut bytes = GREETING.to_vec();
        for number in [self.rank, self.count, self.topic.len() as u64] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(&self.topic);
        to.write_all(&bytes)
    }

    /// Nothing if it is not complete.
    fn parse(said: &[u8]) -> Option<Self> {
        let (header, topic) = said.split_at_checked(Self::HEADER)?;
        let numbers = header[GREETING.len()..].as_chunks().0;
        let [rank, count, len] = numbers else { return None };
        let [rank, count, len] = [rank, count, len].map(|bytes| u64::from_le_bytes(*bytes));
        let topic = topic.get(..usize::try_from(len).ok()?)?;
        Some(Self { rank, count, topic: topic.to_vec() })
    }
}

/// Whether a rank that waits is still there. It says nothing while it waits.
fn is_connected(peer: &TcpStream) -> bool {
    let asked = peer.set_nonblocking(true).and_then(|()| peer.peek(&mut [0]));
    let is_there = matches!(&asked, Err(error) if error.kind() == ErrorKind::WouldBlock);
    is_there && peer.set_nonblocking(false).is_ok()
}

/// Tells a rank that all are there, or why it is refused. One that has ended meanwhile is noticed later.
fn answer(peer: &mut TcpStream, refused: &str) {
    let text = &refused.as_bytes()[..refused.len().min(usize::from(u16::MAX))];
    let _ = peer.write_all(&[&(text.len() as u16).to_le_bytes(), text].concat());
}

/// Why the first rank refuses this one, which is empty if it does not; nothing if it has not answered yet.
fn heard(peer: &mut TcpStream) -> io::Result<Option<String>> {
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
    peer.set_read_timeout(Some(INTRODUCTION))?;
    peer.read_exact(&mut len)?;
    let mut text = vec![0; usize::from(u16::from_le_bytes(len))];
    peer.read_exact(&mut text)?;
    Ok(Some(String::from_utf8_lossy(&text).into_owned()))
}

/// The first line in which two topics differ.
fn difference(found: &[u8], expected: &[u8]) -> String {
    let [found, expected] = [found, expected].map(String::from_utf8_lossy);
    let pair = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    let (found, expected) = pair.unwrap_or(("other settings", "those of rank 1"));
    format!("expected {expected:.300}, found {found:.300}")
}
