//! The log drivers: Docker's JSON files, syslog, journald, OpenTelemetry collectors.

use super::{Manifest, Target};
use crate::model::parse_time;
use crate::model::{Context, Error, Result};
use crate::monitor::Line;
use crate::project::ReplicaId;
use crate::sys;
use nix::fcntl::OFlag;
use serde_json::json;
use std::fs::File;
use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The journal's socket (systemd, "Native Journal Protocol").
const JOURNAL: &str = "/run/systemd/journal/socket";
/// The host's syslog (syslog(3)).
const SYSLOG: &str = "/dev/log";
/// The timeout for a receiver.
const PATIENCE: Duration = Duration::from_secs(10);

/// The destination of one container's lines.
pub enum Driver {
    JsonFile(PathBuf),
    Syslog { place: Syslog, name: String },
    Journald { fields: Vec<(&'static str, String)> },
    Otlp { url: String, resource: serde_json::Value, client: reqwest::Client, runtime: tokio::runtime::Runtime },
    None,
}

/// How a syslog server is reached.
pub enum Syslog {
    Udp(String),
    Tcp(String),
    /// The host's own socket; symbolic links are followed.
    Own,
    /// A socket that the project names; its path must not contain symbolic links.
    Socket(PathBuf),
}

impl Driver {
    /// The driver for a target.
    ///
    /// # Errors
    /// Fails when an address is not valid, or when the network client cannot be set up.
    pub fn new(target: &Target, manifest: &Manifest) -> Result<Self> {
        let name = format!("{}/{}", manifest.project, target.container);
        let address = target.driver.address.as_deref();
        Ok(match target.driver.name.as_str() {
            "json-file" => Self::JsonFile(manifest.folder.join(address.unwrap_or("logs.json"))),
            "syslog" => Self::Syslog { place: address.map_or_else(|| Ok(Syslog::Own), syslog)?, name },
            "journald" => Self::Journald {
                fields: vec![
                    ("SYSLOG_IDENTIFIER", name.clone()),
                    ("CONTAINER_NAME", target.container.clone()),
                    ("CONTAINER_TAG", name),
                    ("IMAGE_NAME", target.image.clone()),
                    ("STEAD_PROJECT", manifest.project.clone()),
                ],
            },
            "otlp" => {
                let attribute = |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
                let service = ReplicaId::container_of(&target.container);
                Self::Otlp {
                    url: format!("{}/v1/logs", address.unwrap_or("http://127.0.0.1:4318").trim_end_matches('/')),
                    resource: json!({ "attributes": [
                        attribute("service.name", service),
                        attribute("service.namespace", &manifest.project),
                        attribute("container.name", &target.container),
                        attribute("container.image.name", &target.image),
                    ] }),
                    client: crate::fetch::http::client(|begun| begun.timeout(PATIENCE))?,
                    runtime: tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .context(|| "cannot start the network runtime".into())?,
                }
            }
            _ => Self::None,
        })
    }

    /// Sends lines; they count as taken only if all of them were.
    ///
    /// # Errors
    /// Fails with the reason, as text, when they were not taken.
    pub fn send(&self, lines: &[Line]) -> Result<(), String> {
        let said = |error: std::io::Error| error.to_string();
        match self {
            Self::None => Ok(()),
            Self::JsonFile(path) => {
                let text: String = lines
                    .iter()
                    .map(|line| {
                        let end = if line.full { "\n" } else { "" };
                        let value = json!({ "log": format!("{}{end}", line.text()), "stream": line.stream, "time": line.time });
                        format!("{value}\n")
                    })
                    .collect();
                append(path, text.as_bytes()).map_err(|error| format!("{}: {error}", path.display()))
            }
            Self::Syslog { place, name } => place.send(lines.iter().map(|line| message(line, name))).map_err(said),
            Self::Journald { fields } => {
                journal(Path::new(JOURNAL), fields, lines).map_err(|error| format!("{JOURNAL}: {error}"))
            }
            Self::Otlp { url, resource, client, runtime } => {
                let body = otlp(resource, lines).to_string();
                let request = client.post(url).header("content-type", "application/json").body(body);
                // The request is made inside the runtime, because its timeout needs the runtime's clock.
                let answer = runtime
                    .block_on(async { request.send().await })
                    .map_err(|error| Error::caused(url.clone(), error).chain())?;
                if answer.status().is_success() { Ok(()) } else { Err(format!("{url} answered {}", answer.status())) }
            }
        }
    }
}

fn syslog(address: &str) -> Result<Syslog> {
    Ok(match address.split_once("://") {
        Some(("udp", place)) => Syslog::Udp(place.to_owned()),
        Some(("tcp", place)) => Syslog::Tcp(place.to_owned()),
        Some(("unix", place)) => Syslog::Socket(place.into()),
        None if address.starts_with('/') => Syslog::Socket(address.into()),
        _ => {
            return Err(Error::new(format!("\"{address}\" is not an address of a syslog server"))
                .hint("for example: udp://127.0.0.1:514, tcp://logs:601 or /dev/log"));
        }
    })
}

/// A line as an RFC 5424 message: the facility is daemon, the severity depends on the stream.
fn message(line: &Line, name: &str) -> Vec<u8> {
    let severity = if line.stream == "stderr" { 3 } else { 6 };
    let host = nix::unistd::gethostname().ok().and_then(|host| host.into_string().ok()).unwrap_or_else(|| "-".into());
    // A fraction of a second has at most six digits (RFC 5424, 6.2.3).
    let time = line.time.get(..26).map_or_else(|| "-".to_owned(), |time| format!("{time}Z"));
    let name: String = name.chars().filter(char::is_ascii_graphic).take(48).collect();
    let mut message = format!("<{}>1 {time} {host} {name} - - - ", 3 * 8 + severity).into_bytes();
    message.extend_from_slice(&line.text);
    message
}

impl Syslog {
    fn send(&self, messages: impl Iterator<Item = Vec<u8>>) -> std::io::Result<()> {
        match self {
            Self::Udp(place) => {
                let socket = UdpSocket::bind("0.0.0.0:0")?;
                socket.connect(place)?;
                for message in messages {
                    socket.send(&message)?;
                }
            }
            Self::Own => datagrams(Path::new(SYSLOG), messages)?,
            Self::Socket(path) => {
                let held = sys::open_without_links(path, OFlag::O_PATH)?;
                datagrams(&Path::new("/proc/self/fd").join(held.as_raw_fd().to_string()), messages)?;
            }
            Self::Tcp(place) => {
                let mut stream = TcpStream::connect(place)?;
                stream.set_write_timeout(Some(PATIENCE))?;
                // Octet counting (RFC 6587, 3.4.1), because lines may hold anything.
                let framed: Vec<u8> =
                    messages.flat_map(|message| [format!("{} ", message.len()).into_bytes(), message].concat()).collect();
                stream.write_all(&framed)?;
            }
        }
        Ok(())
    }
}

/// Appends to a file of the host. When the plan was made, all links on the path were resolved, and the user allowed it if
/// it leads out of the project. So a symbolic link on it now, or anything but a regular file, was put there since: refuse it.
fn append(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_APPEND | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let mut file = File::from(sys::open_without_links(path, flags)?);
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    file.write_all(bytes)
}

fn datagrams(path: &Path, messages: impl Iterator<Item = Vec<u8>>) -> std::io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.connect(path)?;
    for message in messages {
        socket.send(&message)?;
    }
    Ok(())
}

/// Sends lines to the journal: one datagram of fields for each line.
fn journal(socket: &Path, fields: &[(&str, String)], lines: &[Line]) -> std::io::Result<()> {
    let out = UnixDatagram::unbound()?;
    out.set_write_timeout(Some(PATIENCE))?;
    out.connect(socket)?;
    for line in lines {
        let mut bytes = Vec::new();
        let priority = if line.stream == "stderr" { "3" } else { "6" };
        let partial = if line.full { None } else { Some(("CONTAINER_PARTIAL_MESSAGE", "true")) };
        let own = [("MESSAGE", line.text.as_slice()), ("PRIORITY", priority.as_bytes())];
        let fields = partial.into_iter().chain(fields.iter().map(|(name, value)| (*name, value.as_str())));
        for (name, value) in own.into_iter().chain(fields.map(|(name, value)| (name, value.as_bytes()))) {
            bytes.extend(name.bytes());
            // A value that is sent with its length may hold anything.
            bytes.push(b'\n');
            bytes.extend((value.len() as u64).to_le_bytes());
            bytes.extend_from_slice(value);
            bytes.push(b'\n');
        }
        out.send(&bytes)?;
    }
    Ok(())
}

/// OpenTelemetry's protocol over HTTP, in JSON (opentelemetry-proto, `logs/v1`).
fn otlp(resource: &serde_json::Value, lines: &[Line]) -> serde_json::Value {
    let records: Vec<serde_json::Value> = lines
        .iter()
        .map(|line| {
            let (number, text) = if line.stream == "stderr" { (17, "ERROR") } else { (9, "INFO") };
            let nanos = line.time.get(20..29).and_then(|part| part.parse::<u64>().ok()).unwrap_or(0) % 1_000_000;
            let time = parse_time(&line.time).unwrap_or(0) * 1_000_000 + nanos;
            json!({
                "timeUnixNano": time.to_string(),
                "severityNumber": number,
                "severityText": text,
                "body": { "stringValue": line.text() },
                "attributes": [{ "key": "log.iostream", "value": { "stringValue": line.stream } }],
            })
        })
        .collect();
    json!({ "resourceLogs": [{ "resource": resource, "scopeLogs": [{ "scope": { "name": "stead" }, "logRecords": records }] }] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(stream: &str, text: &str) -> Line {
        Line { time: "2023-11-14T22:13:20.123456789Z".into(), stream: stream.into(), full: true, text: text.into() }
    }

    #[test]
    fn messages_are_as_their_standards_say() {
        let text = String::from_utf8(message(&line("stderr", "oh no"), "shop/web-1")).unwrap();
        assert!(text.starts_with("<27>1 2023-11-14T22:13:20.123456Z ") && text.ends_with(" shop/web-1 - - - oh no"), "{text}");
        let value = otlp(&json!({}), &[line("stdout", "hi")]);
        let record = &value["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
        assert_eq!(record["timeUnixNano"], "1700000000123456789");
        assert_eq!((record["severityNumber"].as_u64(), record["body"]["stringValue"].as_str()), (Some(9), Some("hi")));
    }

    #[test]
    fn the_journal_gets_fields_with_their_lengths() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let journal_socket = UnixDatagram::bind(&path).unwrap();
        journal(&path, &[("CONTAINER_NAME", "web-1".into())], &[line("stdout", "two\u{1}words")]).unwrap();
        let mut buffer = [0; 1024];
        let length = journal_socket.recv(&mut buffer).unwrap();
        let mut wanted = b"MESSAGE\n\x09\0\0\0\0\0\0\0two\x01words\nPRIORITY\n\x01\0\0\0\0\0\0\x006\n".to_vec();
        wanted.extend(b"CONTAINER_NAME\n\x05\0\0\0\0\0\0\0web-1\n");
        assert_eq!(&buffer[..length], wanted);
    }
}
