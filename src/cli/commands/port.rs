use super::super::Context;
use super::containers::replicas;
use crate::model::{Error, Result};

/// Lists published ports, or where one port of a container is published.
///
/// Example: stead port web 5000
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The container or replica.
    name: String,
    /// A port of the container, with `/udp` if it is one.
    port: Option<String>,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let instance = context.instance()?;
    let record = instance.record()?;
    let mut lines = Vec::new();
    for name in replicas(&instance, std::slice::from_ref(&arguments.name))? {
        for port in record.containers.get(&name).map(|container| container.ports.as_slice()).unwrap_or_default() {
            let protocol = if port.protocol == crate::project::Protocol::Udp { "udp" } else { "tcp" };
            let inner = format!("{}/{protocol}", port.to);
            let wanted =
                arguments.port.as_ref().map(|wanted| if wanted.contains('/') { wanted.clone() } else { format!("{wanted}/tcp") });
            match wanted {
                Some(wanted) if wanted == inner => lines.push(format!("{}:{}", port.address, port.port)),
                Some(_) => {}
                None => lines.push(format!("{inner} -> {}:{}", port.address, port.port)),
            }
        }
    }
    lines.sort();
    lines.dedup();
    if lines.is_empty() {
        let what = arguments.port.as_ref().map_or_else(|| "no port".to_owned(), |port| format!("no port {port}"));
        return Err(Error::new(format!("container {} publishes {what}", arguments.name)).hint("write: publish 8080 to=80"));
    }
    context.ui.result(lines.join("\n"));
    Ok(0)
}
