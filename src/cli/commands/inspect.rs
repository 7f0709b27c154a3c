use super::super::Context;
use crate::engine::{self, replicas};
use crate::model::{Error, Result};

/// Prints everything that is known of containers, as JSON; secrets are not among it.
///
/// `spec` is the OCI runtime specification that the container was started from, `beyond` what cannot be said in one.
///
/// Example: stead inspect web | jq '.[0].spec.linux.resources'
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Containers or replicas.
    #[arg(required = true)]
    names: Vec<String>,
    /// Only the OCI runtime specification, of one container, as `config.json` of a bundle has it.
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
    let record = instance.record()?;
    let rows = super::ps::rows(&instance, super::ps::Which::All)?;
    let mut all = Vec::new();
    for name in replicas(&instance, &arguments.names)? {
        let row = rows.iter().find(|row| row.name == name).ok_or_else(|| Error::new(format!("container {name} is gone")))?;
        let spec = instance.container(&name).spec()?;
        let mut value = serde_json::to_value(row).unwrap_or_default();
        value["record"] = serde_json::to_value(record.containers.get(&name)).unwrap_or_default();
        value["status"] = serde_json::to_value(instance.container(&name).status()).unwrap_or_default();
        value["logs"] = instance.logs(&name).display().to_string().into();
        value["monitor"] = serde_json::to_value(&spec).unwrap_or_default();
        let blueprint = value["monitor"].as_object_mut().and_then(|monitor| monitor.remove("blueprint"));
        value["beyond"] = blueprint.map(|mut blueprint| blueprint["beyond"].take()).unwrap_or_default();
        value["spec"] = spec.map(|spec| spec.blueprint.specification()).unwrap_or_default();
        all.push(value);
    }
    context.ui.json(&all);
    Ok(0)
}
