//! The table of fields and its text format.
//!
//! ```text
//! # a comment
//! @later = a reason that many fields share
//!
//! [Disk]                              a type; then `atomic`, `nullable`, `preserve`
//! name!     string          : acted
//! bootOrder int min=1       : acted
//! lun       LunTarget       : refused @later
//! tag       string          : refused a reason of its own
//! ```
//!
//! One field a line: name (`!` when required), type, attributes, and after
//! ` : ` the state with its reason. Types: `string bool int int32 int64 number
//! quantity intstr time object meta template-meta`, another type's name,
//! `map T`, and lists: `[]T` (replaced as a whole), `[*]T` (no statement how it
//! merges), `[set]T`, `[key,…]T` (a map by those keys).
//!
//! Attributes: `enum=a|b`, `min=`, `max=`, `minlen=`, `maxlen=`, `maxitems=`,
//! `pattern=`, `default=JSON`, `nullable`; and, for refused fields, `void` (an
//! object whose members are all zero says nothing and is let through) and
//! `ok=VALUE` (the one value that is what happens anyway).

use std::collections::BTreeMap;

use serde_json::Value;

/// Why a table is malformed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("schema table: expected {expected}, found '{line}'")]
pub struct TableError {
    /// What the format wants there.
    pub expected: &'static str,
    /// The line as it is.
    pub line: String,
}

/// What edgevirt does with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It changes what edgevirt does.
    Acted,
    /// It has no effect, and why that is harmless.
    Accepted(&'static str),
    /// An object that sets it is refused, and why.
    Refused(&'static str),
    /// Below an accepted or refused field: as that one.
    Inherited,
}

/// How the elements of a list merge (`x-kubernetes-list-type`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListKind {
    /// Replaced as a whole.
    Atomic,
    /// Nothing is said.
    Unstated,
    /// Elements are unique.
    Set,
    /// Elements are found by these keys.
    Map(Vec<&'static str>),
}

/// Type of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    String,
    /// True or false.
    Bool,
    /// Whole number; the width, when upstream states one: `int32`, `int64`.
    Int(Option<&'static str>),
    /// Any number.
    Number,
    /// Kubernetes quantity: a number or text as `2056M`.
    Quantity,
    /// Number or name, as of a port.
    IntOrString,
    /// RFC 3339 time.
    Time,
    /// Any object.
    Object,
    /// Metadata of the object itself, checked by the API server.
    Meta,
    /// Metadata inside a template, which the API server does not know.
    TemplateMeta,
    /// Another type of the table.
    Type(&'static str),
    /// A list.
    List(ListKind, Box<Kind>),
    /// An object with any keys and values of one type.
    Map(Box<Kind>),
}

impl Kind {
    /// Name of the table's type at the bottom of lists and maps.
    pub fn type_name(&self) -> Option<&'static str> {
        match self {
            Self::Type(name) => Some(name),
            Self::List(_, inner) | Self::Map(inner) => inner.type_name(),
            _ => None,
        }
    }

    fn parse(text: &'static str) -> Option<Self> {
        if let Some(rest) = text.strip_prefix("map ") {
            return Some(Self::Map(Box::new(Self::parse(rest)?)));
        }
        if let Some(rest) = text.strip_prefix('[') {
            let (how, inner) = rest.split_once(']')?;
            let list = match how {
                "" => ListKind::Atomic,
                "*" => ListKind::Unstated,
                "set" => ListKind::Set,
                keys => ListKind::Map(keys.split(',').collect()),
            };
            return Some(Self::List(list, Box::new(Self::parse(inner)?)));
        }
        Some(match text {
            "string" => Self::String,
            "bool" => Self::Bool,
            "int" => Self::Int(None),
            "int32" => Self::Int(Some("int32")),
            "int64" => Self::Int(Some("int64")),
            "number" => Self::Number,
            "quantity" => Self::Quantity,
            "intstr" => Self::IntOrString,
            "time" => Self::Time,
            "object" => Self::Object,
            "meta" => Self::Meta,
            "template-meta" => Self::TemplateMeta,
            name if name.starts_with(|c: char| c.is_ascii_uppercase()) => Self::Type(name),
            _ => return None,
        })
    }
}

/// Limits and switches of a field.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attrs {
    /// Values that are allowed; any when empty.
    pub values: Vec<&'static str>,
    /// Smallest number.
    pub min: Option<i64>,
    /// Largest number.
    pub max: Option<i64>,
    /// Least number of characters.
    pub min_length: Option<i64>,
    /// Greatest number of characters.
    pub max_length: Option<i64>,
    /// Greatest number of elements.
    pub max_items: Option<i64>,
    /// Regular expression of the text.
    pub pattern: Option<&'static str>,
    /// Value the API server fills in.
    pub default: Option<Value>,
    /// May be null.
    pub nullable: bool,
    /// Refused field: an object of zero values counts as not set.
    pub void: bool,
    /// Refused field: this value counts as not set.
    pub harmless: Option<&'static str>,
}

/// One field.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Name in JSON.
    pub name: &'static str,
    /// Must be there.
    pub required: bool,
    /// Its type.
    pub kind: Kind,
    /// Limits.
    pub attrs: Attrs,
    /// What edgevirt does with it.
    pub state: State,
}

/// A type with its fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Type {
    /// Name in the table.
    pub name: &'static str,
    /// Replaced as a whole in a server-side apply (`x-kubernetes-map-type`).
    pub atomic: bool,
    /// Null is allowed as an element.
    pub nullable: bool,
    /// The API server keeps unknown fields; admission refuses them.
    pub preserve: bool,
    /// Fields, by name.
    pub fields: Vec<Field>,
}

impl Type {
    /// The field called `name`.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

/// All types.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    types: BTreeMap<&'static str, Type>,
}

impl Table {
    /// The type called `name`.
    pub fn get(&self, name: &str) -> Option<&Type> {
        self.types.get(name)
    }

    /// All types by name.
    pub fn types(&self) -> impl Iterator<Item = &Type> {
        self.types.values()
    }

    /// Parses table texts; shared reasons must come before their use.
    ///
    /// # Errors
    /// The first line that is not in the format of the module's documentation.
    pub fn parse(sources: &[&'static str]) -> Result<Self, TableError> {
        let mut table = Self::default();
        let mut reasons = BTreeMap::new();
        for source in sources {
            let mut current: Option<Type> = None;
            for line in source.lines().map(str::trim) {
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                if let Some(rest) = line.strip_prefix('@') {
                    let (name, text) = rest
                        .split_once(" = ")
                        .ok_or_else(|| bad("'@name = reason'", line))?;
                    reasons.insert(name, text);
                } else if line.starts_with('[') {
                    table.add(current.take(), line)?;
                    current = Some(parse_header(line)?);
                } else {
                    let ty = current
                        .as_mut()
                        .ok_or_else(|| bad("a type header before the first field", line))?;
                    let field = parse_field(line, &reasons)?;
                    if ty.field(field.name).is_some() {
                        return Err(bad("each field once", line));
                    }
                    ty.fields.push(field);
                }
            }
            table.add(current, "end of table")?;
        }
        Ok(table)
    }

    fn add(&mut self, ty: Option<Type>, line: &str) -> Result<(), TableError> {
        match ty {
            Some(ty) if self.types.contains_key(ty.name) => {
                Err(bad("each type once, before", line))
            }
            Some(ty) => {
                self.types.insert(ty.name, ty);
                Ok(())
            }
            None => Ok(()),
        }
    }
}

fn bad(expected: &'static str, line: &str) -> TableError {
    TableError {
        expected,
        line: line.to_owned(),
    }
}

fn parse_header(line: &'static str) -> Result<Type, TableError> {
    let (name, flags) = line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
        .ok_or_else(|| bad("'[Type]'", line))?;
    let mut ty = Type {
        name,
        ..Type::default()
    };
    for flag in flags.split_whitespace() {
        match flag {
            "atomic" => ty.atomic = true,
            "nullable" => ty.nullable = true,
            "preserve" => ty.preserve = true,
            _ => return Err(bad("atomic, nullable or preserve", line)),
        }
    }
    Ok(ty)
}

fn parse_field(
    line: &'static str,
    reasons: &BTreeMap<&'static str, &'static str>,
) -> Result<Field, TableError> {
    let (what, state) = match line.split_once(" : ") {
        Some((what, state)) => (what, parse_state(state.trim(), line, reasons)?),
        None => (line, State::Inherited),
    };
    let (name, rest) = what
        .split_once(' ')
        .ok_or_else(|| bad("a type after the field's name", line))?;
    let rest = rest.trim();
    // `map T` is the one type with a space in it.
    let type_end = rest
        .strip_prefix("map ")
        .map_or_else(|| rest.find(' '), |inner| inner.find(' ').map(|at| at + 4))
        .unwrap_or(rest.len());
    let (kind, attrs) = rest.split_at(type_end);
    Ok(Field {
        name: name.trim_end_matches('!'),
        required: name.ends_with('!'),
        kind: Kind::parse(kind).ok_or_else(|| bad("a known type", line))?,
        attrs: parse_attrs(attrs, line)?,
        state,
    })
}

fn parse_state(
    text: &'static str,
    line: &str,
    reasons: &BTreeMap<&'static str, &'static str>,
) -> Result<State, TableError> {
    if text == "acted" {
        return Ok(State::Acted);
    }
    let (word, why) = text
        .split_once(' ')
        .ok_or_else(|| bad("a reason after the state", line))?;
    let why = match why.strip_prefix('@') {
        Some(name) => reasons
            .get(name)
            .copied()
            .ok_or_else(|| bad("a shared reason that is defined", line))?,
        None => why,
    };
    match word {
        "accepted" => Ok(State::Accepted(why)),
        "refused" => Ok(State::Refused(why)),
        _ => Err(bad("acted, accepted or refused", line)),
    }
}

fn parse_attrs(text: &'static str, line: &str) -> Result<Attrs, TableError> {
    let mut attrs = Attrs::default();
    for word in text.split_whitespace() {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let number = || {
            value
                .parse::<i64>()
                .map(Some)
                .map_err(|_| bad("a number", line))
        };
        match key {
            "enum" => attrs.values = value.split('|').collect(),
            "min" => attrs.min = number()?,
            "max" => attrs.max = number()?,
            "minlen" => attrs.min_length = number()?,
            "maxlen" => attrs.max_length = number()?,
            "maxitems" => attrs.max_items = number()?,
            "pattern" => attrs.pattern = Some(value),
            "default" => {
                let default = serde_json::from_str(value);
                attrs.default = Some(default.map_err(|_| bad("JSON after default=", line))?);
            }
            "nullable" => attrs.nullable = true,
            "void" => attrs.void = true,
            "ok" => attrs.harmless = Some(value),
            _ => return Err(bad("a known attribute", line)),
        }
    }
    Ok(attrs)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_line_says_all_of_a_field() {
        let table = Table::parse(&[
            "@later = not yet\n[A] atomic\nx! [k,l]B maxitems=3 : refused @later\n[B]\ny map quantity nullable\nz string enum=a|b ok=a default=\"b\" : accepted it is a hint",
        ])
        .unwrap();
        let a = table.get("A").unwrap();
        assert!(a.atomic);
        let x = a.field("x").unwrap();
        assert!(x.required);
        assert_eq!(x.state, State::Refused("not yet"));
        assert_eq!(x.attrs.max_items, Some(3));
        assert_eq!(
            x.kind,
            Kind::List(ListKind::Map(vec!["k", "l"]), Box::new(Kind::Type("B")))
        );
        let b = table.get("B").unwrap();
        let y = b.field("y").unwrap();
        assert_eq!(y.kind, Kind::Map(Box::new(Kind::Quantity)));
        assert!(y.attrs.nullable);
        assert_eq!(y.state, State::Inherited);
        let z = b.field("z").unwrap();
        assert_eq!(z.attrs.values, ["a", "b"]);
        assert_eq!(z.attrs.harmless, Some("a"));
        assert_eq!(z.attrs.default, Some(Value::from("b")));
    }

    #[test]
    fn malformed_lines_are_shown() {
        for text in [
            "x string",
            "[A]\nx",
            "[A]\nx text",
            "[A]\nx string : refused",
            "[A]\nx string : refused @nowhere",
            "[A]\nx string colour=red",
            "[A]\nx string\nx bool",
            "[A]\n[A]\n",
            "[A] shiny",
        ] {
            assert!(Table::parse(&[text]).is_err(), "{text}");
        }
    }
}
