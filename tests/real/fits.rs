//! Compares a value with a schema of `schemas/`, as far as those schemas go: types, constants, choices, objects, lists,
//! references and alternatives. A crate for all of JSON Schema brings a hundred others; a word that is not known here fails.

use serde_json::Value;

/// Fails the test unless a value fits the schema of this name.
pub fn fits(name: &str, value: &Value) {
    let path = format!("{}/schemas/{name}.schema.json", env!("CARGO_MANIFEST_DIR"));
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    if let Err(why) = check(&schema, &schema, value, "") {
        panic!("{name}: {why}\n{value:#}");
    }
}

fn check(root: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    for (word, wanted) in schema.as_object().ok_or("a schema is an object")? {
        let holds = match word.as_str() {
            "$schema" | "$id" | "$defs" | "title" | "description" | "properties" | "additionalProperties" => true,
            "$ref" => {
                let path = wanted.as_str().unwrap_or_default().trim_start_matches('#');
                check(root, root.pointer(path).ok_or_else(|| format!("there is no {path}"))?, value, at)?;
                true
            }
            "anyOf" => wanted.as_array().is_some_and(|all| all.iter().any(|one| check(root, one, value, at).is_ok())),
            "const" => value == wanted,
            "enum" => wanted.as_array().is_some_and(|all| all.contains(value)),
            "type" => match wanted.as_str() {
                Some("object") => value.is_object(),
                Some("array") => value.is_array(),
                Some("string") => value.is_string(),
                Some("integer") => value.is_i64() || value.is_u64(),
                Some("number") => value.is_number(),
                Some("boolean") => value.is_boolean(),
                Some("null") => value.is_null(),
                other => return Err(format!("the type {other:?} is not known")),
            },
            "minimum" => value.as_f64() >= wanted.as_f64(),
            "maximum" => value.as_f64() <= wanted.as_f64(),
            // The only patterns are of digests.
            "pattern" => value.as_str().is_some_and(|text| {
                text.strip_prefix("sha256:")
                    .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
            }),
            "required" => wanted
                .as_array()
                .is_some_and(|all| all.iter().all(|name| name.as_str().is_some_and(|name| value.get(name).is_some()))),
            "minItems" => value.as_array().map(|all| all.len() as u64) >= wanted.as_u64(),
            "maxItems" => value.as_array().map(|all| all.len() as u64) <= wanted.as_u64(),
            "items" => {
                for (index, one) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, wanted, one, &format!("{at}/{index}"))?;
                }
                true
            }
            "prefixItems" => {
                let pairs = wanted.as_array().into_iter().flatten().zip(value.as_array().into_iter().flatten());
                for (index, (schema, one)) in pairs.enumerate() {
                    check(root, schema, one, &format!("{at}/{index}"))?;
                }
                true
            }
            other => return Err(format!("the word {other} of schemas is not known")),
        };
        if !holds {
            return Err(format!("{at}: {word} {wanted} does not hold for {value}"));
        }
    }
    for (name, one) in value.as_object().into_iter().flatten() {
        match (schema["properties"].get(name), schema.get("additionalProperties")) {
            (Some(schema), _) => check(root, schema, one, &format!("{at}/{name}"))?,
            (None, Some(Value::Bool(false))) => return Err(format!("{at}: {name} is not in the schema")),
            (None, Some(rest @ Value::Object(_))) => check(root, rest, one, &format!("{at}/{name}"))?,
            _ => {}
        }
    }
    Ok(())
}
