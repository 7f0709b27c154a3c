//! Image configurations and manifests, as OCI's image-spec 1.1 defines them.
//!
//! A built image is a manifest blob that names a configuration blob and its layers. The JSON is
//! written with sorted keys, so that equal images have equal bytes.

use crate::model::bounds::image::{HEALTH_RETRIES, HEALTH_SPAN};
use crate::model::{ARCHITECTURE, Context, Digest, Duration, Error, LayerInfo, PLATFORM, Result, time_text};
use crate::plan::{Config, Image, merged_ports};
use crate::project::{Health, Probe};
use crate::store::Store;
use oci_spec::image as oci;
use serde::Serialize;

/// Writes an image's configuration and manifest.
///
/// # Errors
/// Fails when a blob cannot be written.
pub fn save(store: &Store, config: &Config, layers: &[LayerInfo], epoch: i64) -> Result<Image> {
    let built = document(config, layers, epoch).context(|| "cannot describe the image".into())?;
    let config_bytes = sorted(&built)?;
    let config_digest = store.put_blob(&config_bytes)?;
    let describe = |kind: oci::MediaType, size: u64, digest: &Digest| {
        let digest = digest.hex().parse::<oci::Sha256Digest>().context(|| "a digest that OCI refuses".into())?;
        Ok::<_, Error>(oci::Descriptor::new(kind, size, digest))
    };
    let manifest = oci::ImageManifestBuilder::default()
        .schema_version(oci::SCHEMA_VERSION)
        .media_type(oci::MediaType::ImageManifest)
        .config(describe(oci::MediaType::ImageConfig, config_bytes.len() as u64, &config_digest)?)
        .layers(
            layers
                .iter()
                .map(|layer| match &layer.blob {
                    // A layer that was made elsewhere is passed on as it came.
                    Some(blob) => describe(oci::MediaType::from(oci_layer(&blob.media_type)), blob.size, &blob.digest),
                    None => describe(oci::MediaType::ImageLayer, layer.size, &layer.diff_id),
                })
                .collect::<Result<Vec<_>>>()?,
        )
        .build()
        .context(|| "cannot describe the image".into())?;
    let digest = store.put_blob(&sorted(&manifest)?)?;
    let image = Image { digest, config: config.clone(), layers: layers.to_vec() };
    keep(store, &image)?;
    Ok(image)
}

/// The OCI media type for one of Docker's: a manifest must not mix the two families.
fn oci_layer(media_type: &str) -> &str {
    match media_type {
        "application/vnd.docker.image.rootfs.diff.tar.gzip" => "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.diff.tar.zstd" => "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.diff.tar" => "application/vnd.oci.image.layer.v1.tar",
        other => other,
    }
}

/// Records an image whose parts are all in the store.
///
/// # Errors
/// Fails when the record cannot be written.
pub fn keep(store: &Store, image: &Image) -> Result<()> {
    let record = serde_json::to_vec(image).context(|| "cannot write the image's record".into())?;
    let path = store.root().join("images").join(image.digest.hex());
    crate::sys::write_whole(&path, &record, 0o644).context(|| format!("cannot write {}", path.display()))
}

/// Reads a configuration that another tool wrote; also returns the `diff_id`s of its layers.
///
/// # Errors
/// Fails when it is not a configuration, or is for another platform.
pub fn parse(bytes: &[u8]) -> Result<(Config, Vec<Digest>)> {
    let value: serde_json::Value = serde_json::from_slice(bytes).context(|| "the image's configuration is no JSON".into())?;
    let (os, architecture) = (value["os"].as_str().unwrap_or("linux"), value["architecture"].as_str().unwrap_or(ARCHITECTURE));
    if (os, architecture) != ("linux", ARCHITECTURE) {
        return Err(Error::new(format!("the image is for {os}/{architecture}, and this machine runs {PLATFORM}")));
    }
    let inner = &value["config"];
    let text = |key: &str| inner[key].as_str().unwrap_or_default().to_owned();
    let words = |value: &serde_json::Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|word| word.as_str().map(str::to_owned)).collect()
    };
    let keys = |key: &str| -> Vec<String> { inner[key].as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect() };
    let (mut expose, mut expose_udp, mut expose_sctp) = (Vec::new(), Vec::new(), Vec::new());
    for text in keys("ExposedPorts") {
        let (ports, protocol) = text.split_once('/').unwrap_or((&text, "tcp"));
        // Older tools wrote ranges, others name each port of one.
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else { continue };
        match protocol {
            _ if first > last => {}
            "udp" => expose_udp.push((first, last)),
            "sctp" => expose_sctp.push((first, last)),
            _ => expose.push((first, last)),
        }
    }
    let [expose, expose_udp, expose_sctp] = [expose, expose_udp, expose_sctp].map(merged_ports);
    let signal = text("StopSignal");
    let config = Config {
        env: words(&inner["Env"])
            .iter()
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        workdir: text("WorkingDir"),
        user: text("User"),
        cmd: words(&inner["Cmd"]),
        entrypoint: words(&inner["Entrypoint"]),
        expose,
        expose_udp,
        expose_sctp,
        onbuild: words(&inner["OnBuild"]),
        labels: inner["Labels"]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect(),
        author: value["author"].as_str().filter(|author| !author.is_empty()).map(str::to_owned),
        volumes: keys("Volumes"),
        stop_signal: Some(signal.strip_prefix("SIG").unwrap_or(&signal).to_owned()).filter(|signal| !signal.is_empty()),
        shell: words(&inner["Shell"]),
        health: None,
    };
    let config = Config { health: health(&inner["Healthcheck"], &config.shell()), ..config };
    let diff_ids = words(&value["rootfs"]["diff_ids"]);
    Ok((config, diff_ids.iter().map(|text| Digest::named(text)).collect::<Result<_>>()?))
}

/// Translates Docker's health check into ours.
fn health(value: &serde_json::Value, shell: &[String]) -> Option<Health> {
    let words: Vec<&str> = value["Test"].as_array()?.iter().filter_map(|word| word.as_str()).collect();
    let probe = match words.as_slice() {
        ["NONE", ..] => Probe::None,
        ["CMD", words @ ..] => Probe::Exec(words.iter().map(|word| (*word).to_owned()).collect()),
        ["CMD-SHELL", line, ..] => Probe::Exec([shell, &[(*line).to_owned()]].concat()),
        ["STEAD-HTTP", port, path] => Probe::Http { port: port.parse().ok()?, path: (*path).to_owned() },
        ["STEAD-TCP", port] => Probe::Tcp(port.parse().ok()?),
        _ => return None,
    };
    // Zero means Docker's default.
    let span = |key: &str, default: Duration| match value[key].as_u64().unwrap_or(0) {
        0 => default,
        nanoseconds => Duration((nanoseconds / 1_000_000).clamp(HEALTH_SPAN.0, HEALTH_SPAN.1)),
    };
    let retries = match value["Retries"].as_u64().unwrap_or(0) {
        0 => 3,
        count => u32::try_from(count).unwrap_or(HEALTH_RETRIES).min(HEALTH_RETRIES),
    };
    Some(Health {
        probe,
        interval: span("Interval", Duration::seconds(30)),
        timeout: span("Timeout", Duration::seconds(30)),
        retries,
        start_period: span("StartPeriod", Duration(0)),
        start_interval: span("StartInterval", Duration::seconds(5)),
    })
}

/// Reads an image, if all of its layers are in the store.
pub fn load(store: &Store, digest: &Digest) -> Option<Image> {
    let image: Image = crate::store::read_json(&store.root().join("images").join(digest.hex()))?;
    image.layers.iter().all(|layer| store.layer(&layer.diff_id).is_some()).then_some(image)
}

/// JSON with sorted keys: `oci-spec` keeps labels in hash maps.
fn sorted(value: &impl Serialize) -> Result<Vec<u8>> {
    let value = serde_json::to_value(value).context(|| "cannot write JSON".into())?;
    serde_json::to_vec(&value).context(|| "cannot write JSON".into())
}

fn document(
    config: &Config,
    layers: &[LayerInfo],
    epoch: i64,
) -> Result<serde_json::Value, Box<dyn std::error::Error + Send + Sync>> {
    let env: Vec<String> = config.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut inner = oci::ConfigBuilder::default().env(env);
    if !config.user.is_empty() {
        inner = inner.user(config.user.clone());
    }
    if !config.workdir.is_empty() {
        inner = inner.working_dir(config.workdir.clone());
    }
    if !config.cmd.is_empty() {
        inner = inner.cmd(config.cmd.clone());
    }
    if !config.entrypoint.is_empty() {
        inner = inner.entrypoint(config.entrypoint.clone());
    }
    let named = |ports: &[(u16, u16)], protocol: &str| -> Vec<String> {
        ports.iter().flat_map(|(first, last)| *first..=*last).map(|port| format!("{port}/{protocol}")).collect()
    };
    let ports = [named(&config.expose, "tcp"), named(&config.expose_udp, "udp"), named(&config.expose_sctp, "sctp")].concat();
    if !ports.is_empty() {
        inner = inner.exposed_ports(ports);
    }
    if !config.labels.is_empty() {
        inner = inner.labels(config.labels.clone().into_iter().collect::<std::collections::HashMap<_, _>>());
    }
    if !config.volumes.is_empty() {
        inner = inner.volumes(config.volumes.clone());
    }
    if let Some(signal) = &config.stop_signal {
        let number = signal.chars().all(|c| c.is_ascii_digit());
        inner = inner.stop_signal(if number { signal.clone() } else { format!("SIG{signal}") });
    }
    let built = oci::ImageConfigurationBuilder::default()
        .created(time_text(epoch))
        .architecture(oci::Arch::Amd64)
        .os(oci::Os::Linux)
        .config(inner.build()?)
        .rootfs(
            oci::RootFsBuilder::default()
                .diff_ids(layers.iter().map(|layer| layer.diff_id.to_string()).collect::<Vec<_>>())
                .build()?,
        )
        .history(
            layers
                .iter()
                .map(|_| oci::HistoryBuilder::default().created(time_text(epoch)).created_by("stead").build())
                .collect::<Result<Vec<_>, _>>()?,
        )
        .build()?;
    let mut value = serde_json::to_value(&built)?;
    if let Some(author) = &config.author {
        value["author"] = author.clone().into();
    }
    // OCI's specification has no health check, but every tool reads Docker's field.
    if let Some(health) = &config.health {
        value["config"]["Healthcheck"] = healthcheck(health, &config.shell());
    }
    if !config.shell.is_empty() {
        value["config"]["Shell"] = config.shell.clone().into();
    }
    if !config.onbuild.is_empty() {
        value["config"]["OnBuild"] = config.onbuild.clone().into();
    }
    Ok(value)
}

fn healthcheck(health: &Health, shell: &[String]) -> serde_json::Value {
    let nanoseconds = |span: Duration| span.0.saturating_mul(1_000_000);
    let test = match &health.probe {
        Probe::None => return serde_json::json!({ "Test": ["NONE"] }),
        // A command for the image's shell is written as Docker writes it.
        Probe::Exec(words) if words.len() == shell.len() + 1 && words.starts_with(shell) => {
            vec!["CMD-SHELL".to_owned(), words[shell.len()].clone()]
        }
        Probe::Exec(words) => std::iter::once("CMD".to_owned()).chain(words.iter().cloned()).collect(),
        // Docker knows only commands. These two forms are carried along like labels, for us to read back.
        Probe::Http { port, path } => vec!["STEAD-HTTP".into(), port.to_string(), path.clone()],
        Probe::Tcp(port) => vec!["STEAD-TCP".into(), port.to_string()],
    };
    serde_json::json!({
        "Test": test,
        "Interval": nanoseconds(health.interval),
        "Timeout": nanoseconds(health.timeout),
        "StartPeriod": nanoseconds(health.start_period),
        "StartInterval": nanoseconds(health.start_interval),
        "Retries": health.retries,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EPOCH;

    #[test]
    fn numbers_of_a_health_check_are_held_to_what_is_sane() {
        let of = |text: &str| health(&serde_json::from_str(text).unwrap(), &[]).unwrap();
        let wild = of(r#"{"Test":["CMD","false"],"Interval":18446744073709551615,"Timeout":1,"StartPeriod":9223372036854775807,
                       "Retries":4294967295}"#);
        assert_eq!((wild.interval, wild.timeout, wild.start_period), (Duration(86_400_000), Duration(1), Duration(86_400_000)));
        assert_eq!(wild.retries, 1000);
        let none = of(r#"{"Test":["CMD","false"],"Interval":0,"Timeout":-1,"Retries":0}"#);
        assert_eq!((none.interval, none.timeout, none.start_period), (Duration::seconds(30), Duration::seconds(30), Duration(0)));
        assert_eq!(none.retries, 3);
        assert_eq!(of(r#"{"Test":["CMD","false"],"Retries":18446744073709551615}"#).retries, 1000);
    }

    #[test]
    fn equal_images_have_equal_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path());
        store.prepare().unwrap();
        let labels = (0..20).map(|n| (format!("label{n}"), n.to_string())).collect();
        let config = Config { labels, cmd: vec!["sh".into()], ..Config::default() };
        let digests: std::collections::BTreeSet<Digest> =
            (0..5).map(|_| save(&store, &config, &[], EPOCH).unwrap().digest).collect();
        assert_eq!(digests.len(), 1);
        assert_eq!(load(&store, digests.first().unwrap()).unwrap().config, config);
    }

    #[test]
    fn a_range_of_all_ports_is_each_of_them_for_others_and_one_for_us() {
        let config = Config { expose: vec![(1, 65535)], expose_udp: vec![(7, 7), (9, 10)], ..Config::default() };
        let value = document(&config, &[], EPOCH).unwrap();
        assert_eq!(value["config"]["ExposedPorts"].as_object().unwrap().len(), 65535 + 3);
        let read = parse(value.to_string().as_bytes()).unwrap().0;
        assert_eq!((read.expose, read.expose_udp), (config.expose, config.expose_udp));
        let others = br#"{"config":{"ExposedPorts":{"8000-8010/tcp":{},"8011":{},"9-8/tcp":{},"x/udp":{}}}}"#;
        assert_eq!(parse(others).unwrap().0.expose, [(8000, 8011)]);
    }

    #[test]
    fn the_author_is_beside_the_configuration_for_containers() {
        let written = |author: Option<&str>| {
            let config = Config { author: author.map(str::to_owned), ..Config::default() };
            let value = document(&config, &[], EPOCH).unwrap();
            assert_eq!(parse(value.to_string().as_bytes()).unwrap().0.author, config.author);
            value
        };
        assert_eq!(written(Some("Jo <jo@example.org>"))["author"], "Jo <jo@example.org>");
        assert!(written(None).get("author").is_none());
        // What others write for nobody is nobody.
        assert_eq!(parse(br#"{"author":""}"#).unwrap().0.author, None);
    }
}
