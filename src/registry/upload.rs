//! Uploads of an image's parts to a repository: a part that is not there is mounted, or sent in chunks or whole.

use super::Registries;
use super::answer::said;
use super::http::{Remote, Wish};
use crate::fetch::http::Retries;
use crate::model::{Context as _, Digest, Error, ErrorKind, Reference, Result};
use crate::store::{Refers, Store};
use bytes::Bytes;
use futures_core::Stream;
use reqwest::header::{CONTENT_TYPE, LOCATION};
use reqwest::{Body, Method, Response, StatusCode};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll};
use tokio::sync::Semaphore;

/// The size of a chunk: some registries accept no larger ones (GHCR).
const CHUNK: u64 = 4 << 20;
/// The largest chunk that a registry may ask for, because chunks are held in memory.
const LARGEST: u64 = 64 << 20;
/// How many parts are sent at the same time.
const AT_ONCE: usize = 5;
/// How many bytes are read at a time when a part is sent whole.
const PIECE: u64 = 256 << 10;

/// A part, and where its bytes are.
#[derive(Clone)]
pub struct Part {
    pub digest: Digest,
    pub size: u64,
    pub content: Content,
}

/// Where a part's bytes are.
#[derive(Clone)]
pub enum Content {
    File(PathBuf),
    Memory(Arc<Vec<u8>>),
}

impl Part {
    /// A part in memory.
    pub fn of(bytes: Vec<u8>) -> Self {
        Self { digest: Digest::of(&bytes), size: bytes.len() as u64, content: Content::Memory(Arc::new(bytes)) }
    }

    fn read(&self, at: u64, length: u64) -> Result<Vec<u8>> {
        let (start, length) = (usize::try_from(at).unwrap_or(usize::MAX), usize::try_from(length).unwrap_or(usize::MAX));
        match &self.content {
            Content::Memory(bytes) => Ok(bytes.get(start..start + length).unwrap_or_default().to_vec()),
            Content::File(path) => {
                let mut bytes = vec![0; length];
                let file = File::open(path).and_then(|file| file.read_exact_at(&mut bytes, at));
                file.context(|| format!("cannot read {}", path.display())).map(|()| bytes)
            }
        }
    }

    /// A request body with all of the part; a file is read piece by piece.
    fn body(&self) -> Body {
        match &self.content {
            Content::Memory(bytes) => Body::from(bytes.to_vec()),
            Content::File(_) => Body::wrap_stream(Pieces { part: self.clone(), at: 0 }),
        }
    }
}

/// A part as a stream.
struct Pieces {
    part: Part,
    at: u64,
}

impl Stream for Pieces {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let length = (self.part.size - self.at).min(PIECE);
        if length == 0 {
            return Poll::Ready(None);
        }
        let piece = self.part.read(self.at, length);
        self.at += length;
        Poll::Ready(Some(piece.map(Bytes::from)))
    }
}

/// Parts on their way to a repository.
pub struct Uploads<'u> {
    registries: &'u Registries,
    store: &'u Store,
    reference: &'u Reference,
    remote: Arc<Remote>,
    gate: Arc<Semaphore>,
    sender: Sender<(Digest, Result<bool>)>,
    receiver: Receiver<(Digest, Result<bool>)>,
    done: Done,
}

/// The results so far.
#[derive(Default)]
struct Done {
    sent: usize,
    parts: usize,
    failed: Option<Error>,
}

impl<'u> Uploads<'u> {
    /// Starts with no uploads.
    pub fn new(registries: &'u Registries, store: &'u Store, reference: &'u Reference, remote: Arc<Remote>) -> Self {
        let (sender, receiver) = channel();
        Self {
            registries,
            store,
            reference,
            remote,
            gate: Arc::new(Semaphore::new(AT_ONCE)),
            sender,
            receiver,
            done: Done::default(),
        }
    }

    /// Begins to send a part, unless the registry has it.
    pub fn begin(&self, part: Part) {
        let (gate, remote, sender, progress) =
            (self.gate.clone(), self.remote.clone(), self.sender.clone(), self.registries.progress.clone());
        let origin = origins(self.store, &part.digest).into_iter().find_map(|name| {
            let (host, repository) = name.split_once('/')?;
            (host == self.reference.host && repository != remote.endpoint.repository).then(|| repository.to_owned())
        });
        progress.total.fetch_add(part.size, Ordering::Relaxed);
        self.registries.wire.begin(async move {
            let turn = gate.acquire().await;
            let done = upload(&remote, &part, origin)
                .await
                .map_err(|error| Error::caused(format!("cannot send {} to {}", part.digest, remote.name()), error));
            progress.done.fetch_add(part.size, Ordering::Relaxed);
            let _ = sender.send((part.digest, done));
            drop(turn);
        });
    }

    /// Whether an upload has failed by now: then the image cannot be pushed there.
    pub fn have_failed(&mut self) -> bool {
        while let Ok((digest, done)) = self.receiver.try_recv() {
            self.note(&digest, done);
        }
        self.done.failed.is_some()
    }

    /// Waits for all uploads; returns how many parts were sent, and how many there are.
    ///
    /// # Errors
    /// Fails with the first error of an upload.
    pub fn end(mut self) -> Result<(usize, usize)> {
        // Our own sender would keep the channel open.
        self.sender = channel().0;
        while let Ok((digest, done)) = self.receiver.recv() {
            self.note(&digest, done);
        }
        let Done { sent, parts, failed } = self.done;
        failed.map_or(Ok((sent, parts)), Err)
    }

    fn note(&mut self, digest: &Digest, done: Result<bool>) {
        self.done.parts += 1;
        match done {
            Ok(was_sent) => {
                self.done.sent += usize::from(was_sent);
                remember_origin(self.store, digest, &self.reference.name());
            }
            Err(error) => drop(self.done.failed.get_or_insert(error)),
        }
    }
}

/// The key for the record of the repositories that a part can be mounted from.
fn origin_key(digest: &Digest) -> Digest {
    Digest::of_json(&("origin", digest))
}

fn origins(store: &Store, digest: &Digest) -> Vec<String> {
    store.result(&origin_key(digest)).unwrap_or_default()
}

/// Remembers that a repository has a part. If this fails, the part is only sent once more than needed.
pub fn remember_origin(store: &Store, digest: &Digest, name: &str) {
    let mut known = origins(store, digest);
    if !known.iter().any(|other| other == name) {
        known.insert(0, name.to_owned());
        known.truncate(8);
        let _ = store.put_result(&origin_key(digest), Refers::to(*digest), &known);
    }
}

/// Sends a part, unless the registry has it; returns whether it was sent.
async fn upload(remote: &Remote, part: &Part, origin: Option<String>) -> Result<bool> {
    let there = remote.send(Method::HEAD, &format!("blobs/{}", part.digest), Wish::Push, |request| request).await?;
    if there.status().is_success() {
        return Ok(false);
    }
    if let Some(origin) = origin {
        let mount = format!("blobs/uploads/?mount={}&from={origin}", part.digest);
        let wish = Wish::Mount(origin);
        let answer = remote.send_once(Method::POST, &mount, wish, |request| request.header("Content-Length", "0")).await;
        // After any other answer the part is sent.
        if answer.is_ok_and(|answer| answer.status() == StatusCode::CREATED) {
            return Ok(false);
        }
    }
    let mut retries = Retries::new();
    loop {
        let answer =
            remote.send(Method::POST, "blobs/uploads/", Wish::Push, |request| request.header("Content-Length", "0")).await?;
        match answer.status() {
            StatusCode::CREATED => return Ok(false),
            StatusCode::ACCEPTED => {}
            _ => return Err(said(&remote.endpoint.host, answer).await),
        }
        let chunk = minimum(&answer).max(CHUNK);
        let place = location(&answer)?;
        let in_chunks = remote.takes_chunks() && chunk <= LARGEST;
        let sent = if in_chunks {
            send_chunks(remote, part, place, chunk).await
        } else {
            finish(remote, part, &place, Some(part)).await
        };
        match sent {
            Ok(()) => return Ok(true),
            // Some registries take no chunks, or none of this size: then the part is sent whole.
            Err(error) if error.kind() == ErrorKind::Refused && in_chunks => remote.send_whole_from_now_on(),
            Err(error) => {
                if error.kind() != ErrorKind::Forgotten {
                    return Err(error);
                }
                retries.again(error, None).await?;
            }
        }
    }
}

/// Whether a status says that the request is wrong, so that repeating it will not help.
fn refuses(status: StatusCode) -> bool {
    let passing = [StatusCode::NOT_FOUND, StatusCode::REQUEST_TIMEOUT, StatusCode::RANGE_NOT_SATISFIABLE];
    status.is_client_error() && !passing.contains(&status)
}

/// The error for a part that the registry did not take.
async fn unwanted(remote: &Remote, answer: Response) -> Error {
    let kind = if refuses(answer.status()) { ErrorKind::Refused } else { ErrorKind::Forgotten };
    said(&remote.endpoint.host, answer).await.of(kind)
}

async fn send_chunks(remote: &Remote, part: &Part, mut location: String, chunk: u64) -> Result<()> {
    let (mut at, mut retries) = (0, Retries::going_on());
    while at < part.size {
        let end = part.size.min(at + chunk);
        let bytes = bytes::Bytes::from(part.read(at, end - at)?);
        let range = format!("{at}-{}", end - 1);
        let answer = remote
            .send_once(Method::PATCH, &location, Wish::Push, |request| {
                let request = request.header(CONTENT_TYPE, "application/octet-stream").header("Content-Range", &range);
                request.header("Content-Length", bytes.len().to_string()).body(bytes.clone())
            })
            .await;
        let error = match answer {
            Ok(answer) if answer.status().is_success() => {
                location = self::location(&answer)?;
                (at, retries) = (end, Retries::going_on());
                continue;
            }
            Ok(answer) => match unwanted(remote, answer).await {
                error if error.kind() == ErrorKind::Refused => return Err(error),
                error => error,
            },
            Err(error) => error,
        };
        retries.again(error, None).await?;
        // The registry tells how much of the part has arrived.
        let answer = remote.send(Method::GET, &location, Wish::Push, |request| request).await?;
        if !answer.status().is_success() {
            return Err(said(&remote.endpoint.host, answer).await.of(ErrorKind::Forgotten));
        }
        location = self::location(&answer).unwrap_or(location);
        let range = answer.headers().get("Range").and_then(|value| value.to_str().ok());
        let last: Option<u64> = range.and_then(|text| text.rsplit('-').next()?.parse().ok());
        // A registry that has nothing answers `0-0`.
        at = last.filter(|last| *last > 0).map_or(0, |last| last + 1).min(part.size);
    }
    finish(remote, part, &location, None).await
}

/// Ends an upload; `rest` is the part, if it is still to be sent.
async fn finish(remote: &Remote, part: &Part, location: &str, rest: Option<&Part>) -> Result<()> {
    let end = format!("{location}{}digest={}", if location.contains('?') { '&' } else { '?' }, part.digest);
    let length = rest.map_or(0, |rest| rest.size);
    let answer = remote
        .send_once(Method::PUT, &end, Wish::Push, |request| {
            let request = request.header("Content-Length", length.to_string());
            match rest {
                Some(rest) => request.header(CONTENT_TYPE, "application/octet-stream").body(rest.body()),
                None => request,
            }
        })
        .await;
    let error = match answer {
        Ok(answer) if answer.status().is_success() => return Ok(()),
        Ok(answer) => unwanted(remote, answer).await,
        Err(error) => error.of(ErrorKind::Forgotten),
    };
    // Perhaps only the answer was lost, and the part has arrived.
    let there = remote.send(Method::HEAD, &format!("blobs/{}", part.digest), Wish::Push, |request| request).await?;
    if there.status().is_success() { Ok(()) } else { Err(error) }
}

fn location(answer: &Response) -> Result<String> {
    let text = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    text.map(str::to_owned).ok_or_else(|| Error::new("the registry does not say where to send it"))
}

/// The smallest chunk that a registry accepts (distribution-spec, `OCI-Chunk-Min-Length`).
fn minimum(answer: &Response) -> u64 {
    let text = answer.headers().get("OCI-Chunk-Min-Length").and_then(|value| value.to_str().ok());
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}
