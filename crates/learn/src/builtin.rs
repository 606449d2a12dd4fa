//! Built-in tasks: real data, tuned settings.

use crate::{
    ClipNorm, Column, Label, LabelKind, LearningSpec, LocalTraining, ModelSpec, Schema,
    ServerOptimiser,
};

/// A built-in task.
#[derive(Debug, Clone, PartialEq)]
pub struct Builtin {
    /// Its name.
    pub name: &'static str,
    /// One line for people.
    pub title: &'static str,
    /// What it is for, in plain words.
    pub summary: &'static str,
    /// What is learnt and how.
    pub spec: LearningSpec,
    /// Where its data comes from.
    pub attribution: &'static str,
}

/// The names of all built-in tasks.
pub const BUILTIN_NAMES: &[&str] = &["digits", "breast-cancer", "diabetes"];

/// The rows of a built-in task.
#[cfg(feature = "builtin-data")]
pub fn builtin_csv(name: &str) -> Option<&'static [u8]> {
    match name {
        "digits" => Some(include_bytes!("../data/digits.csv")),
        "breast-cancer" => Some(include_bytes!("../data/breast_cancer.csv")),
        "diabetes" => Some(include_bytes!("../data/diabetes.csv")),
        _ => None,
    }
}

/// A built-in task; `model` picks another model than its usual one, with settings that suit it.
pub fn builtin(name: &str, model: Option<&str>) -> Option<Builtin> {
    let averaging = ServerOptimiser::FedAvg { learning_rate: 1.0 };
    let spec = |schema, model, epochs, batch_size, learning_rate, clip| LearningSpec {
        schema,
        model,
        local: LocalTraining {
            epochs,
            batch_size,
            learning_rate,
        },
        clip_norm: ClipNorm(clip),
        frac_bits: 15,
        server: averaging,
        init_seed: 1,
    };
    let mlp = ModelSpec::Mlp { hidden: 32 };
    match name {
        "digits" => Some(Builtin {
            name: "digits",
            title: "Read handwritten digits",
            summary: "Learns to tell the digits 0 to 9 from small pictures of 8 by 8 pixels. Draw ten or more, or use samples.",
            attribution: "UCI Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak), CC BY 4.0",
            spec: match model.unwrap_or("softmax") {
                // Nearly every update fills a bound this tight: what one participant of bad will can send is no longer than
                // what an honest one does, and noise, which is in units of the bound, is as small as it can be.
                "softmax" => LearningSpec {
                    server: ServerOptimiser::FedAvg { learning_rate: 1.4 },
                    ..spec(digits(), ModelSpec::Softmax, 5, 16, 1.0, 1.0)
                },
                "mlp" => spec(digits(), mlp, 5, 16, 0.1, 8.0),
                _ => return None,
            },
        }),
        "breast-cancer" => Some(Builtin {
            name: "breast-cancer",
            title: "Tell benign from malignant tumours",
            summary: "Learns from measurements of cell nuclei whether a breast tumour is benign. For research, not for diagnosis.",
            attribution: "UCI Breast Cancer Wisconsin (Diagnostic) (Wolberg, Street, Mangasarian), CC BY 4.0",
            spec: match model.unwrap_or("softmax") {
                "softmax" => spec(breast_cancer(), ModelSpec::Softmax, 5, 8, 0.05, 4.0),
                "mlp" => spec(breast_cancer(), mlp, 5, 8, 0.05, 8.0),
                _ => return None,
            },
        }),
        "diabetes" => Some(Builtin {
            name: "diabetes",
            title: "Predict the course of diabetes",
            summary: "Learns how ten measurements of a patient relate to how diabetes progressed a year later.",
            attribution: "Efron, Hastie, Johnstone, Tibshirani, \"Least Angle Regression\" (2004)",
            spec: match model.unwrap_or("linear") {
                "linear" => spec(diabetes(), ModelSpec::Linear, 8, 8, 0.02, 2.0),
                "mlp" => spec(diabetes(), mlp, 5, 8, 0.02, 4.0),
                _ => return None,
            },
        }),
        _ => None,
    }
}

fn digits() -> Schema {
    let pixel = |i: usize| Column {
        name: format!("p{i}"),
        min: 0.0,
        max: 16.0,
        center: None,
        scale: None,
    };
    Schema {
        columns: (0..64).map(pixel).collect(),
        label: Label {
            name: "label".into(),
            kind: LabelKind::Class {
                classes: (0..10).map(|digit| digit.to_string()).collect(),
            },
        },
    }
}

/// Name, smallest and largest value, centre, scale. Centre and scale are statistics that the task's
/// owner publishes.
type Row = (&'static str, f64, f64, f64, f64);

fn columns(rows: &[Row]) -> Vec<Column> {
    rows.iter()
        .map(|&(name, min, max, center, scale)| Column {
            name: name.into(),
            min,
            max,
            center: Some(center),
            scale: Some(scale),
        })
        .collect()
}

fn breast_cancer() -> Schema {
    Schema {
        columns: columns(BREAST_CANCER),
        label: Label {
            name: "benign".into(),
            kind: LabelKind::Class {
                classes: vec!["0".into(), "1".into()],
            },
        },
    }
}

fn diabetes() -> Schema {
    Schema {
        columns: columns(DIABETES),
        label: Label {
            name: "progression".into(),
            kind: LabelKind::Number {
                min: 0.0,
                max: 700.0,
                center: Some(152.0),
                scale: Some(77.0),
            },
        },
    }
}

const BREAST_CANCER: &[Row] = &[
    ("mean_radius", 0.0, 56.2, 14.1, 3.52),
    ("mean_texture", 0.0, 78.6, 19.3, 4.3),
    ("mean_perimeter", 0.0, 377.0, 92.0, 24.3),
    ("mean_area", 0.0, 5000.0, 655.0, 352.0),
    ("mean_smoothness", 0.0, 0.327, 0.0964, 0.0141),
    ("mean_compactness", 0.0, 0.691, 0.104, 0.0528),
    ("mean_concavity", 0.0, 0.854, 0.0888, 0.0796),
    ("mean_concave_points", 0.0, 0.402, 0.0489, 0.0388),
    ("mean_symmetry", 0.0, 0.608, 0.181, 0.0274),
    ("mean_fractal_dimension", 0.0, 0.195, 0.0628, 0.00705),
    ("radius_error", 0.0, 5.75, 0.405, 0.277),
    ("texture_error", 0.0, 9.77, 1.22, 0.551),
    ("perimeter_error", 0.0, 44.0, 2.87, 2.02),
    ("area_error", 0.0, 1080.0, 40.3, 45.5),
    ("smoothness_error", 0.0, 0.0623, 0.00704, 0.003),
    ("compactness_error", 0.0, 0.271, 0.0255, 0.0179),
    ("concavity_error", 0.0, 0.792, 0.0319, 0.0302),
    ("concave_points_error", 0.0, 0.106, 0.0118, 0.00616),
    ("symmetry_error", 0.0, 0.158, 0.0205, 0.00826),
    ("fractal_dimension_error", 0.0, 0.0597, 0.00379, 0.00264),
    ("worst_radius", 0.0, 72.1, 16.3, 4.83),
    ("worst_texture", 0.0, 99.1, 25.7, 6.14),
    ("worst_perimeter", 0.0, 502.0, 107.0, 33.6),
    ("worst_area", 0.0, 8510.0, 881.0, 569.0),
    ("worst_smoothness", 0.0, 0.445, 0.132, 0.0228),
    ("worst_compactness", 0.0, 2.12, 0.254, 0.157),
    ("worst_concavity", 0.0, 2.5, 0.272, 0.208),
    ("worst_concave_points", 0.0, 0.582, 0.115, 0.0657),
    ("worst_symmetry", 0.0, 1.33, 0.29, 0.0618),
    ("worst_fractal_dimension", 0.0, 0.415, 0.0839, 0.018),
];

const DIABETES: &[Row] = &[
    ("age", 0.0, 158.0, 48.5, 13.1),
    ("sex", 1.0, 2.0, 1.47, 0.499),
    ("bmi", 0.0, 84.4, 26.4, 4.41),
    ("bp", 0.0, 266.0, 94.6, 13.8),
    ("s1", 0.0, 602.0, 189.0, 34.6),
    ("s2", 0.0, 485.0, 115.0, 30.4),
    ("s3", 0.0, 198.0, 49.8, 12.9),
    ("s4", 0.0, 18.2, 4.07, 1.29),
    ("s5", 0.0, 12.2, 4.64, 0.522),
    ("s6", 0.0, 248.0, 91.3, 11.5),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_is_valid_with_every_model() {
        for name in BUILTIN_NAMES {
            builtin(name, None).unwrap().spec.validate().unwrap();
            builtin(name, Some("mlp")).unwrap().spec.validate().unwrap();
        }
        assert!(builtin("digits", Some("linear")).is_none());
        assert!(builtin("unknown", None).is_none());
    }

    #[cfg(feature = "builtin-data")]
    #[test]
    fn the_shipped_rows_fit_their_schemas() {
        for (name, rows) in [("digits", 1797), ("breast-cancer", 569), ("diabetes", 442)] {
            let schema = builtin(name, None).unwrap().spec.schema;
            let samples = schema
                .read_csv(builtin_csv(name).unwrap(), &crate::DataLimits::default())
                .unwrap();
            assert_eq!(samples.len(), rows);
        }
    }
}
