use super::super::Context;
use crate::engine;
use crate::model::{Error, Result};

/// Prints everything that is known about containers as JSON, without secrets.
///
/// `spec` is the OCI runtime specification that the container was started from, `beyond` what it cannot express.
///
/// Example: stead inspect web | jq '.[0].spec.linux.resources'
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Containers or replicas.
    #[arg(required = true)]
    names: Vec<String>,
    /// Print only the OCI runtime specification of one container, as in `config.json` of an OCI bundle.
    #[arg(long)]
    oci: bool,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8> {
    let instance = context.instance()?;
    if arguments.oci {
        let [name] = arguments.names.as_slice() else { return Err(Error::new("--oci takes one container").usage()) };
        context.ui.json(&engine::specification(&instance, &instance.find(name)?)?);
        return Ok(0);
    }
    context.ui.json(&engine::inspection(&instance, &arguments.names)?);
    Ok(0)
}
