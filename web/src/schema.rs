//! The columns a task needs, read from its signed manifest.

use serde::Deserialize;

/// One input column of numbers.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Column {
    pub name: String,
    pub min: f64,
    pub max: f64,
}

/// What a label is.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum LabelKind {
    Class { classes: Vec<String> },
    Number { min: f64, max: f64 },
}

/// The label column.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Label {
    pub name: String,
    pub kind: LabelKind,
}

/// The columns of a task.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Schema {
    pub columns: Vec<Column>,
    pub label: Label,
}

/// How contributions are split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Vdaf {
    /// Full nodes that check one, each with a share of it.
    #[serde(default = "two")]
    pub shares: u8,
    /// Bins of private votes on the model; 0: there are none.
    #[serde(default)]
    pub votes: u8,
}

fn two() -> u8 {
    2
}

impl Default for Vdaf {
    fn default() -> Self {
        Self {
            shares: two(),
            votes: 0,
        }
    }
}

/// How participants come to a task that counts enrolled ones only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Admission {
    /// Anybody enrols.
    Open,
    /// Whoever has an invite's code enrols.
    Invite,
    /// An admin lets keys in.
    Approved,
}

/// The part of a manifest the page reads.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Manifest {
    #[serde(default)]
    pub vdaf: Vdaf,
    pub learning: Learning,
    /// None: anybody contributes.
    #[serde(default)]
    pub admission: Option<Admission>,
}

impl Manifest {
    /// Reads the signed text of a manifest.
    pub fn read(payload: &str) -> Option<Self> {
        let value = js_sys::JSON::parse(payload).ok()?;
        serde_wasm_bindgen::from_value(value).ok()
    }
}

/// The part of a learning specification the page reads.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Learning {
    pub schema: Schema,
}

/// Pictures of 8 by 8 pixels.
pub const SIDE: usize = 8;
/// The darkest pixel.
pub const INK: u8 = 16;

impl Schema {
    /// Reads the signed text of a manifest.
    pub fn of_manifest(payload: &str) -> Option<Self> {
        Some(Manifest::read(payload)?.learning.schema)
    }

    /// The classes, if each row is a picture of 8 by 8 pixels that can be drawn.
    pub fn picture_classes(&self) -> Option<&[String]> {
        let pixels = self
            .columns
            .iter()
            .all(|c| c.min == 0.0 && c.max == f64::from(INK));
        match &self.label.kind {
            LabelKind::Class { classes } if pixels && self.columns.len() == SIDE * SIDE => {
                Some(classes)
            }
            _ => None,
        }
    }

    /// The header of a CSV file with these columns.
    pub fn header(&self) -> String {
        let names = self.columns.iter().map(|column| column.name.as_str());
        names
            .chain([self.label.name.as_str()])
            .collect::<Vec<_>>()
            .join(",")
    }

    /// What a row is, in one sentence.
    pub fn told(&self) -> String {
        let inputs = match self.columns.as_slice() {
            [one] => format!("the column {}", one.name),
            [first, .., last] => format!(
                "{} columns ({} to {})",
                self.columns.len(),
                first.name,
                last.name
            ),
            [] => "no column".into(),
        };
        let label = &self.label.name;
        match &self.label.kind {
            LabelKind::Class { classes } => {
                format!(
                    "A header line, {inputs} and {label}, which is one of {}.",
                    classes.join(", ")
                )
            }
            LabelKind::Number { min, max } => {
                format!("A header line, {inputs} and {label}, a number from {min} to {max}.")
            }
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn digits() -> Schema {
        let columns: Vec<_> = (0..64)
            .map(|i| format!(r#"{{"name":"p{i}","min":0.0,"max":16.0}}"#))
            .collect();
        let label = r#"{"name":"label","kind":{"type":"class","classes":["0","1","2"]}}"#;
        let learning = format!(
            r#"{{"learning":{{"schema":{{"columns":[{}],"label":{label}}},"frac_bits":15}}}}"#,
            columns.join(",")
        );
        serde_json::from_str::<Manifest>(&learning)
            .unwrap()
            .learning
            .schema
    }

    #[test]
    fn only_pictures_can_be_drawn() {
        let mut schema = digits();
        assert_eq!(schema.picture_classes().unwrap().len(), 3);
        schema.columns.pop();
        assert_eq!(schema.picture_classes(), None);
    }

    #[test]
    fn a_manifest_says_how_participants_come_to_the_task() {
        let learning = r#""learning":{"schema":{"columns":[],"label":{"name":"l","kind":{"type":"number","min":0.0,"max":1.0}}}}"#;
        let admission = |more: &str| {
            let manifest = serde_json::from_str::<Manifest>(&format!("{{{learning}{more}}}"));
            manifest.unwrap().admission
        };
        assert_eq!(admission(""), None);
        assert_eq!(
            admission(r#","admission":"approved""#),
            Some(Admission::Approved)
        );
    }

    #[test]
    fn a_manifest_says_how_many_check_a_contribution() {
        let learning = r#""learning":{"schema":{"columns":[],"label":{"name":"l","kind":{"type":"number","min":0.0,"max":1.0}}}}"#;
        let shares = |more: &str| {
            let manifest = serde_json::from_str::<Manifest>(&format!("{{{more}{learning}}}"));
            manifest.unwrap().vdaf.shares
        };
        assert_eq!(shares(""), 2);
        assert_eq!(
            shares(r#""vdaf":{"scheme":"pine64","dimension":650,"frac_bits":15},"#),
            2
        );
        assert_eq!(shares(r#""vdaf":{"scheme":"pine64","shares":3},"#), 3);
    }

    #[test]
    fn the_needed_columns_are_told_in_words() {
        assert_eq!(
            digits().told(),
            "A header line, 64 columns (p0 to p63) and label, which is one of 0, 1, 2."
        );
    }
}
