//! A proxy in front of a registry, which injects errors.

use super::http::{Body, Head, Length, Listener, answer, value};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A proxy in front of a registry: it records the requests, and injects errors. It ends when it is dropped.
pub struct Proxy {
    /// The host and the port.
    pub address: String,
    state: Arc<State>,
    _listener: Listener,
}

/// A rule for an error. A request gets at most one error: the first that fits it and is not used up.
pub struct Error {
    /// The method, or any when this is empty.
    pub method: &'static str,
    /// A text that the path, with its query, contains.
    pub path: &'static str,
    /// How many requests get the error.
    pub times: usize,
    pub act: Act,
}

/// What an error does. If a request has a body, the acts on bodies change that one, on its way to the registry.
/// Otherwise they change the answer's body; an answer that is an error or has no body does not count.
#[derive(Clone, Debug)]
pub enum Act {
    /// Answers with this status, these headers and this body, and does not ask the registry.
    Answer(u16, Vec<(String, String)>, String),
    /// Cuts the connection after this many bytes of the body, although more were announced.
    CutAfter(usize),
    /// Removes the Range header from the request, so that the whole body comes.
    NoRange,
    /// Flips the bits of the byte in the middle of the body, or of its first byte if the length is unknown.
    Damage,
    /// Passes this many small pieces of the body on, with a pause after each, and the rest at full speed.
    Drip { piece: usize, pause: Duration, pieces: usize },
    /// Redirects, with status 307, to this base URL followed by the path.
    Redirect(String),
    /// Closes without an answer.
    Close,
    /// Waits before the registry is asked.
    Delay(Duration),
}

impl Act {
    fn is_of_bodies(&self) -> bool {
        matches!(self, Self::CutAfter(_) | Self::Damage | Self::Drip { .. })
    }
}

/// A request that the proxy received; it is recorded when its answer begins.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// The names are in lower case.
    pub headers: Vec<(String, String)>,
    /// The status of the answer; 0 if there was none.
    pub status: u16,
}

impl Seen {
    /// The value of a header, whose name is given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        value(&self.headers, name)
    }
}

/// The state that the proxy's connections share.
struct State {
    registry: String,
    errors: Mutex<Vec<Error>>,
    seen: Mutex<Vec<Seen>>,
}

impl Proxy {
    /// Starts a proxy for the registry with this host and port, which speaks plain HTTP.
    pub fn before(registry: &str, errors: Vec<Error>) -> Self {
        let state = Arc::new(State { registry: registry.to_owned(), errors: Mutex::new(errors), seen: Mutex::new(Vec::new()) });
        let shared = Arc::clone(&state);
        let listener = Listener::new(move |stream| shared.exchange(stream));
        Self { address: listener.address.clone(), state, _listener: listener }
    }

    /// The requests since the start, or since `forget`, in the order in which their answers began.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// The same requests, as `METHOD path`.
    pub fn requests(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| format!("{} {}", seen.method, seen.path)).collect()
    }

    pub fn forget(&self) {
        self.state.seen.lock().unwrap().clear();
    }
}

impl State {
    /// Takes the error for a request if it can act now.
    fn take(&self, method: &str, path: &str, now: impl Fn(&Act) -> bool) -> Option<Act> {
        let mut errors = self.errors.lock().unwrap();
        let fits = |error: &&mut Error| {
            error.times > 0 && (error.method.is_empty() || error.method == method) && path.contains(error.path)
        };
        let error = errors.iter_mut().find(fits).filter(|error| now(&error.act))?;
        error.times -= 1;
        Some(error.act.clone())
    }

    fn saw(&self, request: &Head, status: u16) {
        let headers = request.headers.iter().map(|(name, value)| (name.to_lowercase(), value.clone())).collect();
        let (method, path) = (request.word(0).to_owned(), request.word(1).to_owned());
        self.seen.lock().unwrap().push(Seen { method, path, headers, status });
    }

    /// Handles one request and its answer, after which the connection ends.
    fn exchange(&self, mut client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let mut reader = BufReader::new(client.try_clone()?);
        let request = Head::read(&mut reader)?;
        let (method, path) = (request.word(0), request.word(1));
        let mut body = Body::new(reader, request.length(Length::Known(0)));
        let act = self.take(method, path, |act| !act.is_of_bodies() || !body.ended);
        let mut refuse = |status, headers: &[(String, String)], text: &str| {
            self.saw(&request, status);
            // A client that waits for "100 Continue" sends no body.
            if request.get("expect").is_none() {
                body.drain()?;
            }
            answer(&mut client, method, status, headers, text)
        };
        match &act {
            Some(Act::Answer(status, headers, text)) => return refuse(*status, headers, text),
            Some(Act::Redirect(base)) => return refuse(307, &[("Location".into(), format!("{base}{path}"))], ""),
            Some(Act::Close) => {
                self.saw(&request, 0);
                return Ok(());
            }
            Some(Act::Delay(pause)) => std::thread::sleep(*pause),
            _ => {}
        }
        let Ok(registry) = TcpStream::connect(&self.registry) else { return refuse(502, &[], "") };
        registry.set_nodelay(true)?;
        if request.get("expect").is_some() {
            client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if let Err(error) = self.ask(&request, &mut body, &registry, act.as_ref()) {
            self.saw(&request, 0);
            return Err(error);
        }
        self.tell(&request, BufReader::new(registry), &mut client, act.is_some())
    }

    /// Passes a request on to the registry.
    fn ask(&self, request: &Head, body: &mut Body<impl BufRead>, mut registry: &TcpStream, act: Option<&Act>) -> io::Result<()> {
        let mut head = Head { first: request.first.clone(), headers: request.headers.clone() };
        head.without(&["connection", "keep-alive", "expect", "host"]);
        if matches!(act, Some(Act::NoRange)) {
            head.without(&["range", "if-range"]);
        }
        head.headers.push(("Host".into(), self.registry.clone()));
        head.headers.push(("Connection".into(), "close".into()));
        head.write(&mut registry)?;
        match pass(body, &mut registry, act) {
            Err(error) if matches!(act, Some(Act::CutAfter(_))) => Err(error),
            // The registry may have answered without reading the whole body.
            Err(_) => body.drain(),
            Ok(()) => Ok(()),
        }
    }

    /// Passes the registry's answer on.
    fn tell(&self, request: &Head, mut registry: BufReader<TcpStream>, client: &mut TcpStream, taken: bool) -> io::Result<()> {
        let mut head = Head { first: String::new(), headers: Vec::new() };
        while head.status() < 200 {
            head = Head::read(&mut registry).inspect_err(|_| self.saw(request, 0))?;
        }
        let status = head.status();
        let empty = request.word(0) == "HEAD" || [204, 304].contains(&status);
        let length = if empty { Length::Known(0) } else { head.length(Length::UntilClose) };
        let mut body = Body::new(registry, length);
        let act = if taken || !(200..300).contains(&status) || body.ended {
            None
        } else {
            self.take(request.word(0), request.word(1), Act::is_of_bodies)
        };
        let (theirs, ours) = (format!("http://{}", self.registry), format!("http://{}", client.local_addr()?));
        for (name, value) in &mut head.headers {
            if name.eq_ignore_ascii_case("location") || name.eq_ignore_ascii_case("link") {
                *value = value.replace(&theirs, &ours);
            }
        }
        head.without(&["connection", "keep-alive"]);
        head.headers.push(("Connection".into(), "close".into()));
        self.saw(request, status);
        head.write(client)?;
        pass(&mut body, client, act.as_ref())?;
        client.shutdown(Shutdown::Write)
    }
}

/// Passes a body on, in the encoding in which it comes, and applies the error to it.
fn pass(from: &mut Body<impl BufRead>, to: &mut impl Write, act: Option<&Act>) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let (mut at, mut count) = (0, 0);
    let middle = if let Length::Known(length) = from.length { length / 2 } else { 0 };
    loop {
        let pause = match act {
            Some(Act::Drip { pause, pieces, .. }) if count < *pieces => Some(*pause),
            _ => None,
        };
        let most = match act {
            Some(Act::CutAfter(bytes)) => bytes - usize::try_from(at).unwrap(),
            Some(Act::Drip { piece, .. }) if pause.is_some() => *piece,
            _ => buffer.len(),
        };
        let room = most.min(buffer.len());
        if room == 0 {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let got = from.next(&mut buffer[..room])?;
        let bytes = &mut buffer[..got];
        if matches!(act, Some(Act::Damage)) && (at..at + got as u64).contains(&middle) {
            bytes[usize::try_from(middle - at).unwrap()] ^= 0xff;
        }
        if from.length == Length::Chunked {
            // The last chunk is empty.
            write!(to, "{got:x}\r\n")?;
            to.write_all(bytes)?;
            to.write_all(b"\r\n")?;
        } else {
            to.write_all(bytes)?;
        }
        if got == 0 {
            return Ok(());
        }
        if let Some(pause) = pause {
            std::thread::sleep(pause);
        }
        at += got as u64;
        count += 1;
    }
}
