//! Fetches files over HTTP or from a directory: verified, resumed, several at once.
//!
//! This room owns how bytes get here, and how many are accepted. `debian`, `build` and `image` decide which files are
//! fetched, and from where.

mod bound;
pub mod http;
mod redirect;

pub use bound::{Bound, Whole, read_file};
pub use redirect::Content;

use crate::model::bounds::fetch::LARGEST;
use crate::model::{Context, Digest, Error, Result, without_login};
use crate::store::{Store, disk_error};
use crate::sys;
use bound::open_file;
use http::{Retries, unreachable};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How many files are fetched at the same time.
pub const AT_ONCE: usize = 8;

/// The progress of downloads; the user interface reads it.
#[derive(Debug, Default)]
pub struct Progress {
    pub total: AtomicU64,
    pub done: AtomicU64,
    notes: Mutex<Vec<String>>,
}

impl Progress {
    /// Leaves a message for the user interface.
    pub fn note(&self, text: String) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    /// Takes the messages since the last call.
    pub fn notes(&self) -> Vec<String> {
        std::mem::take(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A place that holds files.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Origin {
    Url(String),
    Folder(PathBuf),
}

impl Origin {
    /// A URL, or a path relative to a directory.
    pub fn parse(text: &str, folder: &Path) -> Self {
        if text.contains("://") { Self::Url(text.trim_end_matches('/').to_owned()) } else { Self::Folder(folder.join(text)) }
    }

    /// The place in readable form, without a login.
    pub fn describe(&self) -> String {
        match self {
            Self::Url(url) => without_login(url),
            Self::Folder(path) => path.display().to_string(),
        }
    }
}

/// A client that fetches from places.
#[derive(Clone)]
pub struct Client {
    /// For content that is verified by a digest that was known before.
    known: reqwest::Client,
    /// For everything else.
    unknown: reqwest::Client,
}

impl Client {
    /// A client with the host's certificates and proxies.
    ///
    /// # Errors
    /// Fails when TLS cannot be set up.
    pub fn new() -> Result<Self> {
        let client = |content| {
            http::client(|begun| {
                begun.read_timeout(Duration::from_secs(30)).pool_max_idle_per_host(AT_ONCE).redirect(redirect::policy(content))
            })
        };
        Ok(Self { known: client(Content::Known)?, unknown: client(Content::Unknown)? })
    }

    fn http(&self, content: Content) -> &reqwest::Client {
        match content {
            Content::Known => &self.known,
            Content::Unknown => &self.unknown,
        }
    }

    /// Fetches a small file into memory; `None` if the place does not have it.
    ///
    /// # Errors
    /// Fails when the place cannot be reached or answers with an error other than absence, or when the file has another size.
    pub async fn get(&self, place: &Origin, path: &str, content: Content, bound: Bound) -> Result<Option<Vec<u8>>> {
        let base = match place {
            Origin::Folder(folder) => {
                let path = folder.join(path);
                let Some((file, length)) = open_file(&path)? else { return Ok(None) };
                bound.check(&path.display().to_string(), length, Whole::Yes)?;
                return bound.read(&path.display().to_string(), file).map(Some);
            }
            Origin::Url(base) => base,
        };
        let url = format!("{base}/{path}");
        let (mut retries, shown) = (Retries::new(), without_login(&url));
        loop {
            let (error, wait) = match self.http(content).get(&url).send().await {
                Ok(answer) if matches!(answer.status().as_u16(), 404 | 403 | 410) => return Ok(None),
                Ok(answer) if answer.status().is_success() => match whole(answer, &shown, bound).await? {
                    Ok(bytes) => return Ok(Some(bytes)),
                    Err(error) => (error, None),
                },
                Ok(answer) => refused(&shown, &answer)?,
                Err(error) if error.is_redirect() => return Err(unreachable(&shown, error)),
                Err(error) => (unreachable(&shown, error), None),
            };
            retries.again(error, wait).await?;
        }
    }

    /// Fetches a file of known digest and size into the store's downloads, resuming an interrupted try. Returns false if the
    /// place does not have it.
    ///
    /// # Errors
    /// Fails when the place cannot be reached, the file cannot be written, or its content or length is wrong.
    pub async fn fetch(&self, place: &Origin, wanted: &Wanted<'_>, target: &Path, progress: &Progress) -> Result<bool> {
        let Wanted { path, digest, size } = *wanted;
        let bound = Bound::Exactly { size, says: "the lock" };
        let part = target.with_extension("part");
        // Parallel builds and other processes may want the same package: one fetches it, the others wait.
        let _turn = turn(&target.with_extension("lock")).await?;
        if target.exists() {
            return Ok(true);
        }
        match place {
            Origin::Folder(folder) => {
                let path = folder.join(path);
                let Some((file, length)) = open_file(&path)? else { return Ok(false) };
                bound.check(&path.display().to_string(), length, Whole::Yes)?;
                let failed = |error| disk_error(&format!("cannot write {}", part.display()), error);
                let mut out = File::create(&part).map_err(failed)?;
                let copied = std::io::copy(&mut file.take(size.saturating_add(1)), &mut out).map_err(failed)?;
                progress.done.fetch_add(copied, Ordering::Relaxed);
            }
            Origin::Url(base) => {
                let url = format!("{base}/{path}");
                if !self.stream(&url, &part, Content::Known, bound, progress).await? {
                    return Ok(false);
                }
            }
        }
        let found = digest_file(&part)?;
        if found != *digest {
            let _ = fs::remove_file(&part);
            return Err(Error::new(format!(
                "{}/{path} is not what the lock says: {found} instead of {digest}",
                place.describe()
            ))
            .hint("the mirror is damaged or malicious; try again, or name another with `mirror`"));
        }
        keep(&part, target)?;
        Ok(true)
    }

    /// Downloads a file from the web to `part`, which may have a part of it from an earlier try.
    async fn stream(&self, url: &str, part: &Path, content: Content, bound: Bound, progress: &Progress) -> Result<bool> {
        let (mut retries, shown) = (Retries::new(), without_login(url));
        let refuse = |error: Error| {
            // A file that is too long is of no use to the next try either.
            let _ = fs::remove_file(part);
            error
        };
        loop {
            let mut have = fs::metadata(part).map_or(0, |metadata| metadata.len());
            if have > bound.most() {
                let _ = fs::remove_file(part);
                have = 0;
            }
            let mut request = self.http(content).get(url);
            if have > 0 {
                request = request.header("Range", format!("bytes={have}-"));
            }
            let mut answer = match request.send().await {
                Ok(answer) => answer,
                Err(error) if error.is_redirect() => return Err(unreachable(&shown, error)),
                Err(error) => {
                    retries.again(unreachable(&shown, error), None).await?;
                    continue;
                }
            };
            match answer.status().as_u16() {
                404 | 403 | 410 => return Ok(false),
                // 416: the part has the whole file already, or is longer than the file.
                416 => {
                    let _ = fs::remove_file(part);
                    retries.again(Error::new(format!("{shown} could not be resumed")), Some(Duration::ZERO)).await?;
                    continue;
                }
                200 | 206 => {}
                _ => {
                    let (error, wait) = refused(&shown, &answer)?;
                    retries.again(error, wait).await?;
                    continue;
                }
            }
            let resumed = answer.status().as_u16() == 206;
            let mut came = if resumed { have } else { 0 };
            if let Some(announced) = answer.content_length() {
                bound.check(&shown, came.saturating_add(announced), Whole::Yes).map_err(refuse)?;
            }
            let file = OpenOptions::new().create(true).write(true).append(resumed).truncate(!resumed).open(part);
            let mut file = file.map_err(|error| disk_error(&format!("cannot write {}", part.display()), error))?;
            loop {
                match answer.chunk().await {
                    Ok(Some(chunk)) => {
                        came = came.saturating_add(chunk.len() as u64);
                        bound.check(&shown, came, Whole::No).map_err(refuse)?;
                        file.write_all(&chunk).map_err(|error| disk_error(&format!("cannot write {}", part.display()), error))?;
                        progress.done.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                    }
                    Ok(None) => return Ok(true),
                    Err(error) => {
                        retries.again(unreachable(&shown, error), None).await?;
                        break;
                    }
                }
            }
        }
    }
}

/// A file whose digest and size are known before it is fetched.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The path below its place.
    pub path: &'a str,
    pub digest: &'a Digest,
    pub size: u64,
}

/// Reads a whole response; after an inner error, another try may help.
async fn whole(mut answer: reqwest::Response, shown: &str, bound: Bound) -> Result<Result<Vec<u8>, Error>> {
    if let Some(announced) = answer.content_length() {
        bound.check(shown, announced, Whole::Yes)?;
    }
    let mut bytes = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => {
                bound.check(shown, (bytes.len() + chunk.len()) as u64, Whole::No)?;
                bytes.extend_from_slice(&chunk);
            }
            Ok(None) => return Ok(Ok(bytes)),
            Err(error) => return Ok(Err(unreachable(shown, error))),
        }
    }
}

/// Fetches a file by its URL into the store's downloads: the one with a given digest, or whatever is there now.
///
/// # Errors
/// Fails when the URL cannot be reached, or when the file has another digest than the wanted one or more than [`LARGEST`]
/// bytes.
pub fn file(store: &Store, url: &str, wanted: Option<&Digest>, progress: &Progress) -> Result<Digest> {
    if let Some(digest) = wanted.filter(|digest| store.download_path(digest).is_file()) {
        return Ok(*digest);
    }
    let client = Client::new()?;
    let content = if wanted.is_some() { Content::Known } else { Content::Unknown };
    let (name, shown) = (Digest::of(url).hex(), without_login(url));
    let part = store.root().join("downloads").join(format!("{name}.part"));
    runtime()?.block_on(async {
        let _turn = turn(&part.with_extension("lock")).await?;
        // Another step may have fetched the same file in the meantime.
        if let Some(digest) = wanted.filter(|digest| store.download_path(digest).is_file()) {
            return Ok(*digest);
        }
        if wanted.is_none() {
            // The part that an earlier try left may be of another file; without a digest this could not be detected.
            let _ = fs::remove_file(&part);
        }
        if !client.stream(url, &part, content, Bound::AtMost(LARGEST), progress).await? {
            return Err(
                Error::new(format!("{shown} is not there")).hint("check the URL; the server says that it has no such file")
            );
        }
        let found = digest_file(&part)?;
        if let Some(wanted) = wanted.filter(|wanted| **wanted != found) {
            let _ = fs::remove_file(&part);
            return Err(Error::new(format!("{shown} has the digest {}, not {}", found.hex(), wanted.hex())).hint(
                "the file there was replaced by another one, or damaged on the way; if the new one is right, write its digest",
            ));
        }
        keep(&part, &store.download_path(&found))?;
        Ok(found)
    })
}

/// Gives a complete file its name. The name says that the file is complete, so this must be true after a power cut, too.
fn keep(part: &Path, target: &Path) -> Result<()> {
    File::open(part)
        .and_then(|file| file.sync_data())
        .map_err(|error| disk_error(&format!("cannot write {}", part.display()), error))?;
    fs::rename(part, target).context(|| format!("cannot write {}", target.display()))
}

/// Waits for a lock without blocking other downloads.
async fn turn(path: &Path) -> Result<sys::Lock> {
    loop {
        match sys::Lock::attempt(path).context(|| format!("cannot lock {}", path.display()))? {
            Some(lock) => return Ok(lock),
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Makes the error of an unsuccessful response, with the time that the server asks to wait.
///
/// # Errors
/// Fails with that error if another try would give the same response.
fn refused(shown: &str, answer: &reqwest::Response) -> Result<(Error, Option<Duration>)> {
    let error = Error::new(format!("{shown} answered {}", answer.status()));
    if http::is_passing(answer.status()) { Ok((error, http::retry_after(answer.headers()))) } else { Err(error) }
}

fn digest_file(path: &Path) -> Result<Digest> {
    File::open(path).and_then(Digest::of_stream).context(|| format!("cannot read {}", path.display()))
}

/// Makes a runtime for one thread.
///
/// # Errors
/// Fails when the kernel refuses the runtime's file descriptors.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context(|| "cannot start the network runtime".into())
}
