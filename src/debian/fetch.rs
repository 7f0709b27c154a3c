//! Fetching: over HTTP or from a folder, verified, resumed, several at once.

use super::mirror::{Mirrors, Place};
use crate::lock::LockedPackage;
use crate::model::{Context, Digest, Fault, Hasher, Outcome};
use crate::store::{Store, disk_fault};
use crate::sys;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const AT_ONCE: usize = 8;
const TRIES: u32 = 4;

/// How far downloads have come; read by whoever shows progress.
#[derive(Debug, Default)]
pub struct Progress {
    pub total: AtomicU64,
    pub done: AtomicU64,
}

/// A client for mirrors.
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
    async fn fetch(&self, place: &Place, path: &str, wanted: &Digest, target: &Path, progress: &Progress) -> Outcome<bool> {
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
        // Its name says that it is whole: so it must be, after a power cut, too.
        File::open(&part)
            .and_then(|file| file.sync_data())
            .map_err(|error| disk_fault(&format!("cannot write {}", part.display()), error))?;
        fs::rename(&part, target).doing(|| format!("cannot write {}", target.display()))?;
        Ok(true)
    }

    async fn stream(&self, url: &str, part: &Path, progress: &Progress) -> Outcome<bool> {
        let mut last = None;
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
                    last = Some(unreachable(url, error));
                    continue;
                }
            };
            match answer.status().as_u16() {
                404 | 403 | 410 => return Ok(false),
                // All of it is there already, or what is there is longer than the file.
                416 => {
                    let _ = fs::remove_file(part);
                    last = Some(Fault::new(format!("{url} could not be resumed")));
                    continue;
                }
                200 | 206 => {}
                _ => {
                    last = Some(Fault::new(format!("{url} answered {}", answer.status())));
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
                        last = Some(unreachable(url, error));
                        break;
                    }
                }
            }
        }
        Err(last.unwrap_or_else(|| Fault::new(format!("cannot fetch {url}"))))
    }
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
    let mut file = File::open(path).doing(|| format!("cannot read {}", path.display()))?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer).doing(|| format!("cannot read {}", path.display()))? {
            0 => return Ok(hasher.finish()),
            length => hasher.update(&buffer[..length]),
        }
    }
}

/// Makes sure that packages are in the store's downloads; tells where each is.
///
/// # Errors
/// Packages that no mirror has any more are named, all of them; other failures by the first.
pub fn fetch_packages(
    store: &Store,
    packages: &[&LockedPackage],
    mirrors: impl FnOnce() -> Outcome<Mirrors>,
    progress: &Arc<Progress>,
) -> Outcome<Vec<PathBuf>> {
    let paths: Vec<PathBuf> = packages.iter().map(|package| store.download_path(&package.sha256)).collect();
    let missing: Vec<LockedPackage> = packages
        .iter()
        .zip(&paths)
        .filter(|(package, path)| !fs::metadata(path).is_ok_and(|metadata| metadata.len() == package.size))
        .map(|(package, _)| (*package).clone())
        .collect();
    if missing.is_empty() {
        return Ok(paths);
    }
    let mirrors = mirrors()?;
    progress.total.fetch_add(missing.iter().map(|package| package.size).sum(), Ordering::Relaxed);
    let client = Client::new()?;
    let store = store.clone();
    let gone = runtime()?.block_on(async move {
        let gate = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
        let mut tasks = tokio::task::JoinSet::new();
        for package in missing {
            let (client, gate, progress, store) = (client.clone(), gate.clone(), progress.clone(), store.clone());
            let places = mirrors.pools(&package.path);
            tasks.spawn(async move {
                let _turn = gate.acquire().await;
                let target = store.download_path(&package.sha256);
                if fs::metadata(&target).is_ok_and(|metadata| metadata.len() != package.size) {
                    let _ = fs::remove_file(&target);
                }
                let mut failure = None;
                for place in &places {
                    match client.fetch(place, &package.path, &package.sha256, &target, &progress).await {
                        Ok(true) => return Ok(None),
                        Ok(false) => {}
                        Err(fault) => failure = Some(fault),
                    }
                }
                failure.map_or(Ok(Some(package.name)), Err)
            });
        }
        let mut gone = Vec::new();
        while let Some(done) = tasks.join_next().await {
            gone.extend(done.doing(|| "a download was cut off".into())??);
        }
        Ok::<_, Fault>(gone)
    })?;
    if gone.is_empty() {
        return Ok(paths);
    }
    let names = gone.join(", ");
    Err(Fault::new(format!("no mirror has these locked packages any more: {names}"))
        .hint(format!("type `stead update {}` to move to what the mirror offers now", gone.join(" "))))
}

/// A runtime for one thread.
///
/// # Errors
/// When the kernel refuses its descriptors.
pub fn runtime() -> Outcome<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().doing(|| "cannot start the network runtime".into())
}
