//! Whether arguments surely violate a tool's JSON schema. Knows the words that tool schemas use and errs on the side of
//! "not surely": then nothing is excused.

use serde_json::{Map, Value};

pub(super) fn violated(schema: &Value, value: &Value) -> bool {
    let Value::Object(schema) = schema else { return schema == &Value::Bool(false) };
    let other_kind = schema.get("type").is_some_and(|kind| !of_kind(kind, value));
    let other_value = schema.get("const").is_some_and(|only| only != value) || list(schema, "enum").is_some_and(|all| !all.contains(value));
    let no_choice = ["anyOf", "oneOf"].iter().any(|word| list(schema, word).is_some_and(|choices| choices.iter().all(|choice| violated(choice, value))));
    let some_part = list(schema, "allOf").is_some_and(|parts| parts.iter().any(|part| violated(part, value)));
    other_kind || other_value || no_choice || some_part || inside_violated(schema, value)
}

fn inside_violated(schema: &Map<String, Value>, value: &Value) -> bool {
    match value {
        Value::Object(object) => object_violated(schema, object),
        Value::Array(items) => {
            let form = schema.get("items");
            form.is_some_and(|form| items.iter().any(|item| violated(form, item))) || beyond(schema, "minItems", "maxItems", items.len() as f64)
        }
        Value::String(text) => beyond(schema, "minLength", "maxLength", text.chars().count() as f64),
        Value::Number(number) => number.as_f64().is_some_and(|number| beyond(schema, "minimum", "maximum", number)),
        Value::Null | Value::Bool(_) => false,
    }
}

fn object_violated(schema: &Map<String, Value>, object: &Map<String, Value>) -> bool {
    let properties = schema.get("properties").and_then(Value::as_object);
    let missing = list(schema, "required").is_some_and(|names| names.iter().filter_map(Value::as_str).any(|name| !object.contains_key(name)));
    let closed = schema.get("additionalProperties") == Some(&Value::Bool(false)) && !schema.contains_key("patternProperties");
    missing
        || object.iter().any(|(name, value)| match properties.and_then(|properties| properties.get(name)) {
            Some(form) => violated(form, value),
            None => closed,
        })
}

fn of_kind(kind: &Value, value: &Value) -> bool {
    match kind {
        Value::String(kind) => match kind.as_str() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            "number" => value.is_number(),
            "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
            _ => true,
        },
        Value::Array(kinds) => kinds.iter().any(|kind| of_kind(kind, value)),
        _ => true,
    }
}

fn beyond(schema: &Map<String, Value>, least: &str, most: &str, number: f64) -> bool {
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    bound(least).is_some_and(|least| number < least) || bound(most).is_some_and(|most| number > most)
}

fn list<'a>(schema: &'a Map<String, Value>, word: &str) -> Option<&'a Vec<Value>> {
    schema.get(word)?.as_array()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sure_violations_are_seen_and_unsure_ones_are_not() {
        let form = json!({
            "type": "object", "required": ["path"], "additionalProperties": false,
            "properties": {
                "path": { "type": "string", "minLength": 1 },
                "limit": { "type": "integer", "minimum": 1 },
                "mode": { "enum": ["a", "b"] },
                "edits": { "type": "array", "items": { "type": "object", "required": ["old"] } },
                "either": { "anyOf": [{ "type": "string" }, { "type": "null" }] },
                "odd": { "pattern": "^x" },
            },
        });
        for (value, expected) in [
            (json!({ "path": "a" }), false),
            (json!({ "path": "a", "limit": 3.0, "mode": "b", "edits": [{ "old": 1 }], "either": null, "odd": "y" }), false),
            (json!({}), true),
            (json!([]), true),
            (json!({ "path": "" }), true),
            (json!({ "path": "a", "limit": 0 }), true),
            (json!({ "path": "a", "limit": 1.5 }), true),
            (json!({ "path": "a", "mode": "c" }), true),
            (json!({ "path": "a", "edits": [{}] }), true),
            (json!({ "path": "a", "either": 7 }), true),
            (json!({ "path": "a", "other": 7 }), true),
        ] {
            assert_eq!(violated(&form, &value), expected, "{value}");
        }
        assert!(!violated(&json!({}), &json!(7)) && !violated(&json!(true), &json!(7)) && violated(&json!(false), &json!(7)));
    }
}
