//! Images in files: OCI layouts (a directory, or a tar of one) and what `docker save` writes.
//!
//! Finds an image and its parts in them; `import` takes it into the store.

use super::compression::{Compression, compression, is_archive};
use super::import::{Blobs, Descriptor, Manifest, import, small};
use super::tarball::{Entries, Kind};
use crate::model::bounds::image::{ARCHIVE, INDEXES, LONGEST};
use crate::model::{ARCHITECTURE, Budget, Context, Digest, Error, PLATFORM, Result, nearest};
use crate::plan::{Config, Image};
use crate::store::Store;
use crate::sys::{Opened, ProjectFiles};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The directory for large temporary files (file-hierarchy(7)).
const LARGE: &str = "/var/tmp";

/// A file or directory with images in it.
pub struct Archive {
    place: Arc<Place>,
    path: PathBuf,
}

/// One of an archive's images.
pub struct Layout {
    place: Arc<Place>,
    /// The names of parts that are not under `blobs/`, as in the format of `docker save`.
    named: BTreeMap<Digest, String>,
    manifest: Vec<u8>,
}

enum Place {
    Folder(File),
    /// A tar, with the offset and length of each of its files.
    Tar(File, BTreeMap<String, (u64, u64)>),
}

impl Place {
    fn of(opened: Opened, path: &Path) -> Result<Self> {
        let file = match opened {
            Opened::Folder(folder) => return Ok(Self::Folder(folder)),
            Opened::File(file) => file,
        };
        let mut start = [0; 8];
        let length = file.read_at(&mut start, 0).context(|| format!("cannot read {}", path.display()))?;
        // These eight bytes are too few to recognise a plain tar: what `is_archive` finds here is compressed.
        let compressed = is_archive(&start[..length]);
        let file = if compressed { plain(file).context(|| format!("cannot unpack {}", path.display()))? } else { file };
        let entries = entries(&file).context(|| format!("{} is not an image archive", path.display()))?;
        Ok(Self::Tar(file, entries))
    }

    /// Opens a file by its name in the archive.
    fn file(&self, name: &str) -> io::Result<Box<dyn Read + Send + '_>> {
        match self {
            Self::Folder(folder) => Ok(Box::new(regular(folder, name)?)),
            Self::Tar(file, entries) => {
                let (at, length) = *entries.get(name).ok_or(io::ErrorKind::NotFound)?;
                Ok(Box::new(Part { file, at, left: length }))
            }
        }
    }

    /// Reads a small file by its name in the archive, if it is there.
    fn small(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let failed = || format!("cannot read {name}");
        let file = match self.file(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.context(failed)?,
        };
        let mut bytes = Vec::new();
        file.take(LONGEST + 1).read_to_end(&mut bytes).context(failed)?;
        if bytes.len() as u64 > LONGEST {
            return Err(Error::new(format!("{name} is longer than the {LONGEST} bytes that are allowed")));
        }
        Ok(Some(bytes))
    }

    fn json(&self, name: &str) -> Result<Option<Value>> {
        let bytes = self.small(name)?;
        bytes.map(|bytes| serde_json::from_slice(&bytes).context(|| format!("{name} is no JSON"))).transpose()
    }
}

/// Decompresses a file into an unnamed temporary file, because its parts are read in any order.
fn plain(mut file: File) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let folder = std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from(LARGE), PathBuf::from);
    let mut content = File::options().read(true).write(true).custom_flags(nix::libc::O_TMPFILE).mode(0o600).open(folder)?;
    let length = file.metadata()?.len();
    io::copy(&mut super::Bounded::new(super::decompressed(&mut file)?, length), &mut content)?;
    content.rewind()?;
    Ok(content)
}

/// Opens a file beneath a directory; anything but a regular file is refused.
fn regular(folder: &File, name: &str) -> io::Result<File> {
    use nix::fcntl::OFlag;
    let file = File::from(crate::sys::open_in_root(folder, name, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other(format!("{name} is no file"))) }
}

/// Reads a small file of a directory.
///
/// # Errors
/// Fails when it is missing, not a regular file, or too long.
pub fn small_file(folder: &File, name: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    regular(folder, name)?.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST { Err(io::Error::other(format!("{name} is too long"))) } else { Ok(bytes) }
}

/// The digests of the files that a `manifest.json` names.
///
/// # Errors
/// Fails when the manifest is not JSON or a file cannot be read.
pub fn named_parts(folder: &File, manifest: &[u8]) -> io::Result<Vec<Digest>> {
    let list: Value = serde_json::from_slice(manifest)?;
    let mut found = Vec::new();
    for one in list.as_array().into_iter().flatten() {
        let layers = one["Layers"].as_array().into_iter().flatten();
        for name in layers.chain([&one["Config"]]).filter_map(Value::as_str) {
            let mut file = regular(folder, name)?;
            let mut hasher = crate::model::Hasher::default();
            let mut buffer = vec![0; 128 << 10];
            loop {
                match file.read(&mut buffer)? {
                    0 => break,
                    length => hasher.update(&buffer[..length]),
                }
            }
            found.push(hasher.finish());
        }
    }
    Ok(found)
}

/// A range of a file's bytes.
struct Part<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let length = self.file.read_at(&mut buffer[..wanted], self.at)?;
        self.at += length as u64;
        self.left -= length as u64;
        Ok(length)
    }
}

/// The offset and length of each file of a tar, by name; the name of a link leads to its target's content.
fn entries(file: &File) -> io::Result<BTreeMap<String, (u64, u64)>> {
    let mut found = BTreeMap::new();
    let mut links = Vec::new();
    let budget = Budget::new(ARCHIVE);
    budget.came(file.metadata()?.len());
    let mut entries = Entries::seeking(file);
    while let Some(entry) = entries.next_entry()? {
        budget.entry(entry.path.as_os_str().len() + entry.link.as_ref().map_or(0, |link| link.as_os_str().len()))?;
        let name = entry.path.to_string_lossy().trim_start_matches("./").to_owned();
        match (entry.kind, &entry.link) {
            (Kind::SymbolicLink, Some(target)) => {
                let folder = Path::new(&name).parent().unwrap_or(Path::new(""));
                links.push((name.clone(), inside(&folder.join(target))));
            }
            (Kind::HardLink, Some(target)) => links.push((name, inside(target))),
            (Kind::File, _) => drop(found.insert(name, (entry.position, entry.size))),
            // Other kinds of entries are never part of an image.
            _ => {}
        }
    }
    for (name, target) in links {
        if let Some(part) = found.get(&target).copied() {
            found.insert(name, part);
        }
    }
    Ok(found)
}

/// A path without `.` and `..`.
fn inside(path: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in path.components() {
        match part {
            std::path::Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            std::path::Component::ParentDir => drop(parts.pop()),
            _ => {}
        }
    }
    parts.join("/")
}

impl Blobs for Layout {
    fn open(&self, digest: &Digest, _: u64) -> Result<Box<dyn Read + Send + '_>> {
        let usual = format!("blobs/sha256/{}", digest.hex());
        let name = self.named.get(digest).unwrap_or(&usual);
        self.place.file(name).context(|| format!("the archive has no {digest}"))
    }
}

impl Archive {
    /// Opens a file or a directory; a compressed file is decompressed first.
    ///
    /// # Errors
    /// Fails when it cannot be opened or is not an archive.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).context(|| format!("cannot open {}", path.display()))?;
        let is_folder = file.metadata().context(|| format!("cannot open {}", path.display()))?.is_dir();
        let opened = if is_folder { Opened::Folder(file) } else { Opened::File(file) };
        Ok(Self { place: Arc::new(Place::of(opened, path)?), path: path.to_owned() })
    }

    /// Opens a file or a directory of a project.
    ///
    /// # Errors
    /// Fails when it is not an archive, lies outside of the project, or is not a regular file.
    pub fn within(files: &ProjectFiles, path: &str) -> Result<Self> {
        let opened = files.open(path).context(|| format!("cannot open {path}"))?;
        Ok(Self { place: Arc::new(Place::of(opened, Path::new(path))?), path: path.into() })
    }

    /// Finds an image: by its name, or the only one.
    ///
    /// # Errors
    /// Fails when the archive holds no images, when the name is not in it, or when no name is given and it holds several.
    pub fn image(&self, name: Option<&str>) -> Result<Layout> {
        let mut layout = Layout { place: self.place.clone(), named: BTreeMap::new(), manifest: Vec::new() };
        if let Some(index) = self.place.json("index.json").context(|| format!("in {}", self.path.display()))? {
            layout.manifest = layout.find(&index, name, 0).context(|| format!("in {}", self.path.display()))?;
        } else if let Some(list) = self.place.json("manifest.json").context(|| format!("in {}", self.path.display()))? {
            layout.docker(&list, name).context(|| format!("in {}", self.path.display()))?;
        } else {
            return Err(Error::new(format!("{} holds no image", self.path.display()))
                .hint("an OCI layout has an index.json, and what `docker save` writes a manifest.json"));
        }
        Ok(layout)
    }

    /// The names of its images.
    ///
    /// # Errors
    /// Fails when its list of images cannot be read.
    pub fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        if let Some(index) = self.place.json("index.json")? {
            let all = index["manifests"].as_array().into_iter().flatten();
            let called = |one: &Value| {
                let notes = &one["annotations"];
                let name = notes["io.containerd.image.name"].as_str().or(notes["org.opencontainers.image.ref.name"].as_str());
                name.map(str::to_owned)
            };
            names.extend(all.filter_map(called));
        } else if let Some(list) = self.place.json("manifest.json")? {
            let all = list.as_array().into_iter().flatten().flat_map(|one| one["RepoTags"].as_array().into_iter().flatten());
            names.extend(all.filter_map(|name| name.as_str().map(str::to_owned)));
        }
        names.dedup();
        Ok(names)
    }
}

impl Layout {
    /// The image's configuration; nothing is taken into the store.
    ///
    /// # Errors
    /// Fails when a part is missing or damaged.
    pub fn config(&self) -> Result<Config> {
        let manifest = Manifest::read(&self.manifest)?;
        Ok(super::config::parse(&small(self, &manifest.config)?)?.0)
    }

    /// Takes the image into the store.
    ///
    /// # Errors
    /// As [`import`].
    pub fn import(&self, store: &Store, pin: &(dyn Fn(&[Digest]) -> Result<()> + Sync)) -> Result<Image> {
        import(store, &self.manifest, self, pin)
    }

    /// Finds the manifest in an index (image-spec, image-index.md), by name and platform.
    fn find(&self, index: &Value, name: Option<&str>, depth: usize) -> Result<Vec<u8>> {
        let all = index["manifests"].as_array().map_or(&[][..], Vec::as_slice);
        let names = |one: &Value| -> Vec<String> {
            let annotations = ["org.opencontainers.image.ref.name", "io.containerd.image.name"];
            annotations.iter().filter_map(|key| one["annotations"][key].as_str()).map(str::to_owned).collect()
        };
        let named: Vec<&Value> = match name {
            Some(wanted) if depth == 0 => {
                let exact: Vec<&Value> = all.iter().filter(|one| names(one).iter().any(|name| name == wanted)).collect();
                let meant = |one: &&Value| names(one).iter().any(|name| means(name, wanted));
                if exact.is_empty() { all.iter().filter(meant).collect() } else { exact }
            }
            _ => all.iter().collect(),
        };
        let fits: Vec<&&Value> = named.iter().filter(|one| platform_fits(one)).collect();
        let known: Vec<String> = all.iter().flat_map(names).collect();
        let chosen = match (fits.as_slice(), named.as_slice()) {
            ([one], _) => one,
            ([first, ..], _) if depth > 0 => first,
            ([], []) => return Err(no_such(name.unwrap_or_default(), &known)),
            ([], _) => return Err(no_platform(&named)),
            _ => return Err(several(&known)),
        };
        let descriptor: Descriptor =
            serde_json::from_value((**chosen).clone()).context(|| "an entry of its index is damaged".into())?;
        let bytes = small(self, &descriptor)?;
        if descriptor.media_type.contains("index") || descriptor.media_type.contains("manifest.list") {
            if depth >= INDEXES {
                return Err(Error::new("its indexes are nested too deeply"));
            }
            let inner = serde_json::from_slice(&bytes).context(|| "an index is no JSON".into())?;
            return self.find(&inner, name, depth + 1);
        }
        Ok(bytes)
    }

    /// Finds an image in the format of `docker save`: a list of images whose layers are files with any names.
    fn docker(&mut self, list: &Value, name: Option<&str>) -> Result<()> {
        let all = list.as_array().map_or(&[][..], Vec::as_slice);
        let tags = |one: &Value| -> Vec<String> {
            one["RepoTags"].as_array().into_iter().flatten().filter_map(|tag| tag.as_str().map(str::to_owned)).collect()
        };
        let fitting = |fits: &dyn Fn(&str, &str) -> bool| -> Vec<&Value> {
            all.iter().filter(|one| name.is_none_or(|wanted| tags(one).iter().any(|tag| fits(tag, wanted)))).collect()
        };
        let exact = fitting(&|tag, wanted| tag == wanted);
        let named = if exact.is_empty() { fitting(&means) } else { exact };
        let known: Vec<String> = all.iter().flat_map(tags).collect();
        let chosen = match named.as_slice() {
            [one] => one,
            [] => return Err(no_such(name.unwrap_or_default(), &known)),
            _ => return Err(several(&known)),
        };
        let lost = || Error::new("its manifest.json is damaged");
        let config_name = chosen["Config"].as_str().ok_or_else(lost)?;
        let config = self.place.small(config_name)?.ok_or_else(|| Error::new(format!("it has no {config_name}")))?;
        let config_digest = Digest::of(&config);
        let described: Value = serde_json::from_slice(&config).context(|| "the configuration is no JSON".into())?;
        self.named.insert(config_digest, config_name.to_owned());
        let diff_ids = described["rootfs"]["diff_ids"].as_array().ok_or_else(lost)?;
        let names = chosen["Layers"].as_array().ok_or_else(lost)?;
        let mut layers = Vec::new();
        for (diff_id, name) in diff_ids.iter().zip(names) {
            let name = name.as_str().ok_or_else(lost)?;
            // Layers are normally uncompressed: then the digest of the file is the `diff_id`.
            let diff_id = Digest::named(diff_id.as_str().unwrap_or_default())?;
            let size = match &*self.place {
                Place::Tar(_, entries) => entries.get(name).map(|(_, length)| *length),
                Place::Folder(folder) => {
                    regular(folder, name).and_then(|file| file.metadata()).ok().map(|metadata| metadata.len())
                }
            };
            let size = size.ok_or_else(|| Error::new(format!("it has no {name}")))?;
            // Some tools compress them: then the file's digest differs from the `diff_id`.
            let mut start = [0; 8];
            let opened = || self.place.file(name).context(|| format!("cannot read {name}"));
            let length = opened()?.read(&mut start).context(|| format!("cannot read {name}"))?;
            let compression = compression(&start[..length]);
            let own = match compression {
                Some(_) => Digest::of_stream(opened()?).context(|| format!("cannot read {name}"))?,
                None => diff_id,
            };
            self.named.insert(own, name.to_owned());
            // Other tools rely on the media type.
            let ending = match compression {
                None => "",
                Some(Compression::Gzip) => "+gzip",
                Some(Compression::Zstd) => "+zstd",
                Some(other) => {
                    return Err(Error::new(format!("{name} is compressed with {other:?}, which images do not use"))
                        .hint("use gzip or zstd, or no compression"));
                }
            };
            let kind = format!("application/vnd.oci.image.layer.v1.tar{ending}");
            layers.push(json!({ "mediaType": kind, "digest": own.to_string(), "size": size }));
        }
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest.to_string(), "size": config.len() },
            "layers": layers,
        });
        self.manifest = manifest.to_string().into_bytes();
        Ok(())
    }
}

/// Whether a name in an archive matches the one that the user wrote: the whole name, or its last parts.
fn means(name: &str, wanted: &str) -> bool {
    name == wanted
        || name.rsplit('/').next() == Some(wanted)
        || name.strip_suffix(wanted).is_some_and(|rest| rest.ends_with(['/', ':']))
}

fn platform_fits(one: &Value) -> bool {
    let platform = &one["platform"];
    // Attestations are listed under a platform that does not exist.
    platform.is_null() || platform["architecture"] == ARCHITECTURE && platform["os"] == "linux"
}

/// The digest of the manifest for this platform, if the given manifest is a list of manifests.
///
/// # Errors
/// Fails when it is not a manifest, or when a list does not have this platform.
pub fn for_platform(manifest: &[u8]) -> Result<Option<Digest>> {
    let value: Value = serde_json::from_slice(manifest).context(|| "the manifest is no JSON".into())?;
    let Some(all) = value["manifests"].as_array() else { return Ok(None) };
    let all: Vec<&Value> = all.iter().collect();
    // A variant that every processor of this architecture runs is preferred to one for newer processors only; an entry
    // without a platform comes last.
    let rank = |one: &&&Value| match one["platform"]["variant"].as_str() {
        _ if one["platform"].is_null() => 3,
        None | Some("v1" | "") => 0,
        Some(_) => 1,
    };
    let fitting = all.iter().filter(|one| platform_fits(one)).min_by_key(rank).ok_or_else(|| no_platform(&all))?;
    Digest::named(fitting["digest"].as_str().unwrap_or_default()).map(Some)
}

/// Whether a manifest is a list of other manifests.
pub fn is_list(manifest: &[u8]) -> bool {
    serde_json::from_slice::<Value>(manifest).is_ok_and(|value| value["manifests"].is_array())
}

/// The manifests that a list names, by platform.
pub fn platforms(list: &[u8]) -> BTreeMap<String, Digest> {
    let value: Value = serde_json::from_slice(list).unwrap_or_default();
    let all = value["manifests"].as_array().into_iter().flatten();
    let found = all.filter_map(|one| {
        let plain = |part: &&str| *part != "unknown" && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        let part = |key: &str| one["platform"][key].as_str().filter(plain);
        let variant = part("variant").map_or_else(String::new, |variant| format!("/{variant}"));
        Some((format!("{}/{}{variant}", part("os")?, part("architecture")?), Digest::named(one["digest"].as_str()?).ok()?))
    });
    // Of several for one platform the first is taken, as in `for_platform`.
    found.fold(BTreeMap::new(), |mut all, (platform, digest)| {
        all.entry(platform).or_insert(digest);
        all
    })
}

fn no_such(name: &str, known: &[String]) -> Error {
    let error = Error::new(if name.is_empty() { "it holds no image".into() } else { format!("it holds no image \"{name}\"") });
    match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => error.hint(format!("write name=\"{near}\"")),
        None if known.is_empty() => error,
        None => error.hint(format!("it holds: {}", known.join(", "))),
    }
}

fn several(known: &[String]) -> Error {
    Error::new("it holds several images").hint(format!("name one of them: {}", known.join(", ")))
}

fn no_platform(all: &[&Value]) -> Error {
    let platforms: Vec<String> = all
        .iter()
        .map(|one| {
            let part = |key: &str| one["platform"][key].as_str().unwrap_or("?").to_owned();
            format!("{}/{}", part("os"), part("architecture"))
        })
        .collect();
    Error::new(format!("it holds nothing for {PLATFORM}, but for {}", platforms.join(", ")))
}
