//! Fetching files: over HTTP or from a folder, verified, resumed, several at once.
//!
//! Owns how bytes come here. Which files, and from where, is for `debian`, `build` and `image` to say.

use crate::model::{Context, Digest, Fault, Outcome, without_login};
use crate::store::{Store, disk_fault};
use crate::sys;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How many files are fetched at the same time.
pub const AT_ONCE: usize = 8;
const TRIES: u32 = 4;

/// How far downloads have come; read by whoever shows progress.
#[derive(Debug, Default)]
pub struct Progress {
    pub total: AtomicU64,
    pub done: AtomicU64,
    notes: Mutex<Vec<String>>,
}

impl Progress {
    /// Leaves word for whoever shows progress.
    pub fn note(&self, text: String) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    /// What was left since the last look.
    pub fn notes(&self) -> Vec<String> {
        std::mem::take(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A place that holds files.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Place {
    Url(String),
    Folder(PathBuf),
}

impl Place {
    /// A URL, or a path relative to a folder.
    pub fn parse(text: &str, folder: &Path) -> Self {
        if text.contains("://") { Self::Url(text.trim_end_matches('/').to_owned()) } else { Self::Folder(folder.join(text)) }
    }

    /// As people know it.
    pub fn describe(&self) -> String {
        match self {
            Self::Url(url) => without_login(url),
            Self::Folder(path) => path.display().to_string(),
        }
    }
}

/// A client for places.
#[derive(Clone)]
pub struct Client(reqwest::Client);

impl Client {
    /// A client with the host's certificates and proxies.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new() -> Outcome<Self> {
        // A second installation of the same provider fails, and changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .user_agent(concat!("stead/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(AT_ONCE)
            .build()
            .doing(|| "cannot set up HTTPS".into())?;
        Ok(Self(client))
    }

    /// A small file whole; nothing where the place does not have it.
    ///
    /// # Errors
    /// When the place cannot be reached or answers with an error other than absence.
    pub async fn get(&self, place: &Place, path: &str) -> Outcome<Option<Vec<u8>>> {
        match place {
            Place::Folder(folder) => match fs::read(folder.join(path)) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(Fault::caused(format!("cannot read {}", folder.join(path).display()), error)),
            },
            Place::Url(base) => {
                let url = format!("{base}/{path}");
                let mut last = None;
                for attempt in 0..TRIES {
                    pause(attempt).await;
                    match self.0.get(&url).send().await {
                        Ok(answer) if matches!(answer.status().as_u16(), 404 | 403 | 410) => return Ok(None),
                        Ok(answer) if answer.status().is_success() => match answer.bytes().await {
                            Ok(bytes) => return Ok(Some(bytes.to_vec())),
                            Err(error) => last = Some(unreachable(&url, error)),
                        },
                        Ok(answer) => last = Some(Fault::new(format!("{url} answered {}", answer.status()))),
                        Err(error) => last = Some(unreachable(&url, error)),
                    }
                }
                Err(last.unwrap_or_else(|| Fault::new(format!("cannot fetch {url}"))))
            }
        }
    }

    /// A file of known digest into the store's downloads, going on where an earlier try was cut.
    ///
    /// # Errors
    /// What cannot be reached or written; bytes that are others.
    pub async fn fetch(&self, place: &Place, path: &str, wanted: &Digest, target: &Path, progress: &Progress) -> Outcome<bool> {
        let part = target.with_extension("part");
        // Builds in parallel, and other processes, may want the same package: one fetches, the others wait.
        let _turn = turn(&target.with_extension("lock")).await?;
        if target.exists() {
            return Ok(true);
        }
        match place {
            Place::Folder(folder) => {
                let Ok(mut file) = File::open(folder.join(path)) else { return Ok(false) };
                let mut out =
                    File::create(&part).map_err(|error| disk_fault(&format!("cannot write {}", part.display()), error))?;
                let copied = std::io::copy(&mut file, &mut out)
                    .map_err(|error| disk_fault(&format!("cannot write {}", part.display()), error))?;
                progress.done.fetch_add(copied, Ordering::Relaxed);
            }
            Place::Url(base) => {
                let url = format!("{base}/{path}");
                if !self.stream(&url, &part, progress).await? {
                    return Ok(false);
                }
            }
        }
        let found = digest_file(&part)?;
        if found != *wanted {
            let _ = fs::remove_file(&part);
            return Err(Fault::new(format!(
                "{}/{path} is not what the lock says: {found} instead of {wanted}",
                place.describe()
            ))
            .hint("the mirror is damaged or lies; try again, or name another with `mirror`"));
        }
        keep(&part, target)?;
        Ok(true)
    }

    pub(crate) async fn stream(&self, url: &str, part: &Path, progress: &Progress) -> Outcome<bool> {
        let (mut last, shown) = (None, without_login(url));
        for attempt in 0..TRIES {
            pause(attempt).await;
            let have = fs::metadata(part).map_or(0, |metadata| metadata.len());
            let mut request = self.0.get(url);
            if have > 0 {
                request = request.header("Range", format!("bytes={have}-"));
            }
            let mut answer = match request.send().await {
                Ok(answer) => answer,
                Err(error) => {
                    last = Some(unreachable(&shown, error));
                    continue;
                }
            };
            match answer.status().as_u16() {
                404 | 403 | 410 => return Ok(false),
                // All of it is there already, or what is there is longer than the file.
                416 => {
                    let _ = fs::remove_file(part);
                    last = Some(Fault::new(format!("{shown} could not be resumed")));
                    continue;
                }
                200 | 206 => {}
                _ => {
                    last = Some(Fault::new(format!("{shown} answered {}", answer.status())));
                    continue;
                }
            }
            let resumed = answer.status().as_u16() == 206;
            let file = OpenOptions::new().create(true).write(true).append(resumed).truncate(!resumed).open(part);
            let mut file = file.map_err(|error| disk_fault(&format!("cannot write {}", part.display()), error))?;
            loop {
                match answer.chunk().await {
                    Ok(Some(chunk)) => {
                        file.write_all(&chunk).map_err(|error| disk_fault(&format!("cannot write {}", part.display()), error))?;
                        progress.done.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                    }
                    Ok(None) => return Ok(true),
                    Err(error) => {
                        last = Some(unreachable(&shown, error));
                        break;
                    }
                }
            }
        }
        Err(last.unwrap_or_else(|| Fault::new(format!("cannot fetch {shown}"))))
    }
}

/// A file by its URL, in the store's downloads: the one of a digest, or whatever it is now.
///
/// # Errors
/// What cannot be reached; a file that has another digest than the wanted one.
pub fn file(store: &Store, url: &str, wanted: Option<&Digest>, progress: &Progress) -> Outcome<Digest> {
    if let Some(digest) = wanted.filter(|digest| store.download_path(digest).is_file()) {
        return Ok(*digest);
    }
    let client = Client::new()?;
    let (name, shown) = (Digest::of(url).hex(), without_login(url));
    let part = store.root().join("downloads").join(format!("{name}.part"));
    runtime()?.block_on(async {
        let _turn = turn(&part.with_extension("lock")).await?;
        // Another step may have wanted the same file, and fetched it meanwhile.
        if let Some(digest) = wanted.filter(|digest| store.download_path(digest).is_file()) {
            return Ok(*digest);
        }
        if wanted.is_none() {
            // What an earlier try left may be of another file: without a digest nothing would tell.
            let _ = fs::remove_file(&part);
        }
        if !client.stream(url, &part, progress).await? {
            return Err(
                Fault::new(format!("{shown} is not there")).hint("check the URL; the server says that it has no such file")
            );
        }
        let found = digest_file(&part)?;
        if let Some(wanted) = wanted.filter(|wanted| **wanted != found) {
            let _ = fs::remove_file(&part);
            return Err(Fault::new(format!("{shown} has the digest {}, not {}", found.hex(), wanted.hex())).hint(
                "the file there is another one now, or was damaged on its way; if the new one is right, write its digest",
            ));
        }
        keep(&part, &store.download_path(&found))?;
        Ok(found)
    })
}

/// Gives a whole file its name. Its name says that it is whole: so it must be, after a power cut, too.
fn keep(part: &Path, target: &Path) -> Outcome<()> {
    File::open(part)
        .and_then(|file| file.sync_data())
        .map_err(|error| disk_fault(&format!("cannot write {}", part.display()), error))?;
    fs::rename(part, target).doing(|| format!("cannot write {}", target.display()))
}

/// Waits for a lock without keeping other downloads from going on.
async fn turn(path: &Path) -> Outcome<sys::Lock> {
    loop {
        match sys::Lock::attempt(path).doing(|| format!("cannot lock {}", path.display()))? {
            Some(lock) => return Ok(lock),
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

fn unreachable(url: &str, error: reqwest::Error) -> Fault {
    Fault::caused(format!("cannot fetch {url}"), error.without_url())
        .hint("check the network, or name another mirror with `mirror \"URL\"`")
}

/// Waits before a repetition: 0, 0.2, 0.8, 1.8 s.
async fn pause(attempt: u32) {
    if attempt > 0 {
        tokio::time::sleep(Duration::from_millis(200 * u64::from(attempt * attempt))).await;
    }
}

fn digest_file(path: &Path) -> Outcome<Digest> {
    File::open(path).and_then(Digest::of_stream).doing(|| format!("cannot read {}", path.display()))
}

/// A runtime for one thread.
///
/// # Errors
/// When the kernel refuses its descriptors.
pub fn runtime() -> Outcome<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().doing(|| "cannot start the network runtime".into())
}
