//! Every row of the built-in data sets, scored encrypted by models trained on them.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use defim_learn::{ClipNorm, DataLimits, Features, Model, Targets, builtin, builtin_csv, train};
use defim_score::{QuantisedModel, Request, Response, ScoringKey, Shape};
use rand::{SeedableRng as _, rngs::StdRng};

/// A trained linear model, `weights: [classes][features]`, and the rows it was trained on.
struct Trained {
    shape: Shape,
    weights: Vec<f32>,
    biases: Vec<f32>,
    rows: Features,
}

fn trained(name: &str, rows: usize) -> Trained {
    let spec = builtin(name, None).unwrap().spec;
    let limits = DataLimits::default();
    let csv = builtin_csv(name).unwrap();
    let samples = spec.schema.read_csv(csv, &limits).unwrap();
    assert_eq!(samples.len(), rows);
    let features = samples.features(&spec.schema);
    let (inputs, outputs) = (spec.schema.inputs(), spec.schema.outputs());
    let model = Model::init(&spec.model, inputs, outputs, 1);
    let update = train(&model, &features, &spec.local, 1, &mut |_| {}).unwrap();
    let update = update.clip(ClipNorm(1e6)).unwrap();
    let params: Vec<f32> = model
        .params()
        .iter()
        .zip(update.values())
        .map(|(a, b)| a + b)
        .collect();
    let (weights, biases) = params.split_at(inputs * outputs);
    Trained {
        shape: Shape::new(inputs, outputs).unwrap(),
        // Of the layer's [inputs][outputs].
        weights: (0..outputs)
            .flat_map(|class| weights.iter().skip(class).step_by(outputs))
            .copied()
            .collect(),
        biases: biases.to_vec(),
        rows: features,
    }
}

impl Trained {
    fn quantised(&self, range: f32) -> QuantisedModel {
        QuantisedModel::from_linear(self.shape, &self.weights, &self.biases, range).unwrap()
    }

    fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.rows.x().chunks_exact(self.shape.features())
    }

    /// The model's outputs in floats.
    fn floats(&self, row: &[f32]) -> Vec<f32> {
        let classes = self.weights.chunks_exact(row.len()).zip(&self.biases);
        classes
            .map(|(weights, bias)| bias + weights.iter().zip(row).map(|(w, x)| w * x).sum::<f32>())
            .collect()
    }
}

/// The way of one row through both sides, by bytes. Asserts that it gives the plain scores.
fn scored(model: &QuantisedModel, row: &[f32], rng: &mut StdRng) -> Vec<i64> {
    let features = model.scale().quantise(row).unwrap();
    let (key, request) = ScoringKey::request(model.shape(), &features, rng).unwrap();
    let request = Request::from_bytes(&request.to_bytes()).unwrap();
    let response = model.score(&request, rng).unwrap();
    let response = Response::from_bytes(&response.to_bytes()).unwrap();
    let scores = key.open(&response).unwrap();
    assert_eq!(scores, model.plain_scores(&features).unwrap());
    scores
}

fn largest<T: PartialOrd>(values: &[T]) -> usize {
    (1..values.len()).fold(0, |best, at| match values[at] > values[best] {
        true => at,
        false => best,
    })
}

/// How many rows get the class of their label, and how many the class of the float model.
fn classes(trained: &Trained, range: f32) -> (usize, usize) {
    let model = trained.quantised(range);
    // Well below the largest norm that is allowed, so that a wrong score is one in 2^150.
    let largest_weight = trained.weights.iter().fold(0.0, |a: f32, w| a.max(w.abs()));
    let squares = trained
        .weights
        .iter()
        .map(|w| (w / largest_weight * 127.0).powi(2));
    let norm = squares.sum::<f32>().sqrt();
    println!("norm {norm}");
    assert!(norm < 2000.0, "{norm}");
    let mut rng = StdRng::seed_from_u64(1);
    let Targets::Class(labels) = trained.rows.targets() else {
        panic!("classes");
    };
    let (mut right, mut same) = (0, 0);
    for (row, label) in trained.rows().zip(labels) {
        let class = largest(&scored(&model, row, &mut rng));
        right += usize::from(class == *label as usize);
        same += usize::from(class == largest(&trained.floats(row)));
    }
    (right, same)
}

#[test]
fn every_digit_gets_the_plain_scores_and_the_class_of_the_model_in_floats() {
    let (right, same) = classes(&trained("digits", 1797), 1.0);
    println!("digits: {right} right, {same} as in floats, of 1797");
    assert!(right >= 1700 && same >= 1780, "{right} {same}");
}

#[test]
fn every_tumour_gets_the_plain_scores_and_the_class_of_the_model_in_floats() {
    let trained = trained("breast-cancer", 569);
    let (right, same) = classes(&trained, 8.0);
    println!("breast-cancer: {right} right, {same} as in floats, of 569");
    assert!(right >= 550 && same >= 563, "{right} {same}");
}

#[test]
fn a_model_of_one_output_decides_by_its_sign() {
    let two = trained("breast-cancer", 569);
    let difference = |values: &[f32]| -> Vec<f32> {
        let (zero, one) = values.split_at(values.len() / 2);
        one.iter().zip(zero).map(|(one, zero)| one - zero).collect()
    };
    let one = Trained {
        shape: Shape::new(30, 1).unwrap(),
        weights: difference(&two.weights),
        biases: difference(&two.biases),
        rows: two.rows.clone(),
    };
    let model = one.quantised(8.0);
    let mut rng = StdRng::seed_from_u64(2);
    let mut same = 0;
    for row in one.rows() {
        let score = scored(&model, row, &mut rng)[0];
        let sigmoid = 1.0 / (1.0 + (-model.scale().value(score)).exp());
        assert_eq!(score > 0, sigmoid > 0.5);
        same += usize::from(usize::from(score > 0) == largest(&two.floats(row)));
    }
    println!("breast-cancer by sign: {same} as in floats, of 569");
    assert!(same >= 563, "{same}");
}

#[test]
fn every_prediction_of_the_course_of_diabetes_is_that_of_the_model_in_floats() {
    let trained = trained("diabetes", 442);
    let model = trained.quantised(5.0);
    let mut rng = StdRng::seed_from_u64(3);
    for row in trained.rows() {
        let score = scored(&model, row, &mut rng)[0];
        // In units of the label's standard deviation, 77.
        let error = model.scale().value(score) - trained.floats(row)[0];
        assert!(error.abs() < 0.05, "{error}");
    }
}
