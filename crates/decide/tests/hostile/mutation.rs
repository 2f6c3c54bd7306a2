//! Bytes as changes of a document.

use serde_json::{Value, json};

/// What every hostile string has: an option that no command line of ours may have.
pub(crate) const EVIL: &str = "evil=on";

/// Bytes, then zeros.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl Input<'_> {
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        let both = usize::from(self.byte()) << 8 | usize::from(self.byte());
        both % end.max(1)
    }
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(all) => all.iter().map(count).sum(),
        Value::Object(all) => all.values().map(count).sum(),
        _ => 0,
    }
}

/// The node of this number, counted from the root down.
fn node<'a>(value: &'a mut Value, number: &mut usize) -> Option<&'a mut Value> {
    if *number == 0 {
        return Some(value);
    }
    *number -= 1;
    let children: Box<dyn Iterator<Item = &mut Value>> = match value {
        Value::Array(all) => Box::new(all.iter_mut()),
        Value::Object(all) => Box::new(all.values_mut()),
        _ => return None,
    };
    for child in children {
        if let Some(found) = node(child, number) {
            return Some(found);
        }
    }
    None
}

/// What takes a node's place.
fn stranger(input: &mut Input<'_>, old: &Value, all: &Value) -> Value {
    match input.byte() % 20 {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-1),
        3 => json!(u64::MAX),
        4 => json!(i64::MAX),
        5 => json!(0),
        6 => json!(1.5e300),
        7 => json!(""),
        8 => json!(format!("a,{EVIL}")),
        9 => json!(format!("a,,{EVIL}\n-{EVIL}")),
        10 => json!("../../../etc/shadow"),
        11 => json!("a".repeat(300)),
        12 => json!([]),
        13 => json!({}),
        14 => json!([[{}], null]),
        15 => json!("18446744073709551615Ei"),
        16 => json!("-1"),
        // Twice what there is.
        17 => match old {
            Value::Array(list) => list.iter().chain(list).cloned().collect(),
            Value::String(text) => json!(format!("{text}{text}")),
            other => other.clone(),
        },
        // What stands elsewhere.
        18 => {
            let mut copy = all.clone();
            let mut number = input.below(count(all));
            node(&mut copy, &mut number).cloned().unwrap_or_default()
        }
        _ => {
            let length = input.below(12);
            let bytes: Vec<u8> = (0..length).map(|_| input.byte()).collect();
            json!(String::from_utf8_lossy(&bytes))
        }
    }
}

/// Up to four changes of `object`, kind and name apart: those are the API server's to check.
pub(crate) fn mutate(object: &mut Value, input: &mut Input<'_>) {
    for _ in 0..=input.byte() % 4 {
        let all = object["spec"].clone();
        let mut number = input.below(count(&all));
        if let Some(place) = node(&mut object["spec"], &mut number) {
            *place = stranger(input, place, &all);
        }
    }
}
