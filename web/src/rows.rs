//! Rows before the light node reads them: a slice of the samples, and the first ones to look at.

/// How many sample rows one browser takes.
pub const SAMPLE_ROWS: usize = 75;
/// Fewest rows of a contribution; the light node says the same of files.
pub const LEAST_ROWS: u64 = 10;
/// The largest file that is read.
pub const MOST_BYTES: f64 = 64.0 * 1024.0 * 1024.0;
/// How much of a file is looked at for the preview.
pub const PREVIEW_BYTES: f64 = 64.0 * 1024.0;
/// Most rows that a model is asked about at once.
pub const ASKED_ROWS: usize = 20;
/// Rows in the preview.
pub const PREVIEW_ROWS: usize = 5;

/// Some of the sample rows, with their header.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// CSV.
    pub text: String,
    /// Rows in it.
    pub rows: usize,
    /// Rows there are.
    pub of: usize,
}

/// Takes a slice at `position`, from 0 for the first possible one to 1 for the last, so that browsers
/// that draw a random position contribute different rows.
pub fn sample(csv: &str, position: f64) -> Option<Sample> {
    let mut lines = csv.lines().filter(|line| !line.trim().is_empty());
    let header = lines.next()?;
    let all: Vec<_> = lines.collect();
    let rows = SAMPLE_ROWS.min(all.len());
    let places = all.len() - rows + 1;
    let first = ((position.clamp(0.0, 1.0) * places as f64) as usize).min(places - 1);
    let slice = all
        .get(first..first + rows)
        .filter(|slice| !slice.is_empty())?;
    let text = [header]
        .iter()
        .chain(slice)
        .map(|line| format!("{line}\n"))
        .collect();
    Some(Sample {
        text,
        rows,
        of: all.len(),
    })
}

/// The first rows of a file, to look at.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Preview {
    /// The columns' names.
    pub header: Vec<String>,
    /// Some rows.
    pub rows: Vec<Vec<String>>,
}

/// Cuts the start of a file into cells. `whole` says whether nothing follows; else the last line may be cut off.
pub fn preview(start: &str, whole: bool) -> Preview {
    let start = start.strip_prefix('\u{feff}').unwrap_or(start);
    let mut lines: Vec<_> = start.lines().collect();
    if !whole && lines.len() > 1 {
        lines.pop();
    }
    let mut rows = lines
        .into_iter()
        .filter(|line| !line.trim().is_empty())
        .map(cells);
    Preview {
        header: rows.next().unwrap_or_default(),
        rows: rows.take(PREVIEW_ROWS).collect(),
    }
}

/// The first rows with their header, to ask a model about.
#[derive(Debug, Clone, PartialEq)]
pub struct First {
    /// CSV.
    pub text: String,
    /// What a column says of each row; empty where there is none.
    pub known: Vec<String>,
}

/// Takes at most [`ASKED_ROWS`] of the start of a file, and what the column `label` says of them.
pub fn first(start: &str, whole: bool, label: &str) -> Option<First> {
    let start = start.strip_prefix('\u{feff}').unwrap_or(start);
    let mut lines: Vec<_> = start.lines().collect();
    if !whole && lines.len() > 1 {
        lines.pop();
    }
    lines.retain(|line| !line.trim().is_empty());
    lines.truncate(1 + ASKED_ROWS);
    let (header, rows) = lines.split_first().filter(|(_, rows)| !rows.is_empty())?;
    let at = cells(header).iter().position(|name| name == label);
    let known = rows
        .iter()
        .map(|row| at.and_then(|at| cells(row).get(at).cloned()))
        .map(Option::unwrap_or_default)
        .collect();
    Some(First {
        text: lines.join("\n"),
        known,
    })
}

/// The cells of one line; `"a, b"` is one cell.
fn cells(line: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    let mut quoted = false;
    for letter in line.chars() {
        match letter {
            '"' => quoted = !quoted,
            ',' if !quoted => out.push(String::new()),
            _ => {
                if let Some(cell) = out.last_mut() {
                    cell.push(letter);
                }
            }
        }
    }
    out.into_iter().map(|cell| cell.trim().to_owned()).collect()
}

/// Why a file is refused before a byte of it is read.
pub fn too_large(name: &str, bytes: f64) -> Option<String> {
    (bytes > MOST_BYTES).then(|| {
        format!(
            "{name} has {}; at most 64 MiB are read, so that this page stays quick. Split the file or leave rows out. \
             Nothing of it was read, and the rows chosen before are still there.",
            crate::format::bytes(bytes as u64),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn csv(rows: usize) -> String {
        let rows: Vec<_> = (0..rows).map(|row| format!("{row},x")).collect();
        format!("a,b\n{}\n\n", rows.join("\n"))
    }

    #[test]
    fn the_page_asks_for_as_many_rows_as_the_light_node() {
        assert_eq!(LEAST_ROWS, defim_learn::MIN_CONTRIBUTION_ROWS);
        assert!(SAMPLE_ROWS as u64 >= LEAST_ROWS);
    }

    #[test]
    fn browsers_take_different_rows_and_every_row_can_be_taken() {
        let text = csv(200);
        let first = sample(&text, 0.0).unwrap();
        let last = sample(&text, 0.999_999).unwrap();
        assert_eq!((first.rows, first.of), (75, 200));
        assert!(first.text.starts_with("a,b\n0,x\n"));
        assert!(last.text.starts_with("a,b\n125,x\n") && last.text.ends_with("199,x\n"));
        assert_eq!(last.text.lines().count(), 76);
        assert_eq!(sample(&text, 1.0), Some(last));
    }

    #[test]
    fn few_samples_are_all_taken() {
        assert_eq!(sample(&csv(3), 0.7).unwrap().rows, 3);
        assert_eq!(sample("a,b\n", 0.5), None);
        assert_eq!(sample("", 0.5), None);
    }

    #[test]
    fn the_preview_shows_cells_and_no_half_line() {
        let cut = preview("\u{feff}name,n\n\"Li, Wei\", 2\nhalf of a li", false);
        assert_eq!(cut.header, ["name", "n"]);
        assert_eq!(cut.rows, [["Li, Wei", "2"]]);
        assert_eq!(preview("a\n1\n2", true).rows.len(), 2);
        assert_eq!(preview("", true), Preview::default());
    }

    #[test]
    fn a_model_is_asked_about_whole_rows_and_their_labels_are_known() {
        let asked = first("\u{feff}a,y\n1,x\n\n2,\n3,z", false, "y").unwrap();
        assert_eq!(asked.text, "a,y\n1,x\n2,");
        assert_eq!(asked.known, ["x", ""]);
        assert_eq!(first("a\n1", true, "y").unwrap().known, [""]);
        assert_eq!(first(&csv(200), true, "b").unwrap().known.len(), ASKED_ROWS);
        assert_eq!(first("a,y\n", true, "y"), None);
        assert_eq!(first("", true, "y"), None);
    }

    #[test]
    fn a_huge_file_is_refused_with_its_size() {
        assert_eq!(too_large("a.csv", MOST_BYTES), None);
        let message = too_large("a.csv", 1e9).unwrap();
        assert!(message.starts_with("a.csv has 1000.0 MB; at most 64 MiB are read"));
    }
}
