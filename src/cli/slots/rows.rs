//! The bookings of a file as JSON objects, each with its line.

use crate::admin::BODY_BYTES_MAX;
use crate::domain::slot::put_field;
use serde_json::{Map, Value};
use std::io::Read;
use std::path::Path;

/// A larger file is better divided: it is read whole.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Reads JSON lines, or CSV where the name says so.
pub(super) fn read(file: &Path) -> Result<Vec<(usize, String)>, String> {
    let mut text = Vec::new();
    let shown = file.display();
    let read = match file.as_os_str() == "-" {
        true => std::io::stdin().lock().take(FILE_BYTES_MAX + 1).read_to_end(&mut text),
        false => std::fs::File::open(file)
            .and_then(|opened| opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)),
    };
    read.map_err(|error| format!("{shown} cannot be read: {error}"))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("{shown} is larger than {} MiB: divide it", FILE_BYTES_MAX >> 20));
    }
    let text = String::from_utf8(text).map_err(|_| format!("{shown} is not UTF-8"))?;
    if file.extension().is_some_and(|end| end.eq_ignore_ascii_case("csv")) {
        return table(&text).map_err(|why| format!("{shown}: {why}"));
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    Ok(lines.map(|(at, line)| (at + 1, line.trim().to_owned())).collect())
}

/// A table: the first row has the fields' names, as in `by` without `$.` (`clinic.id`, `rooms[0].id`), or a selector
/// (`path:clinic`). A cell that is a JSON list is one.
fn table(text: &str) -> Result<Vec<(usize, String)>, String> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::Headers).from_reader(text.as_bytes());
    let names = reader.headers().map_err(|error| error.to_string())?.clone();
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| error.to_string())?;
        let mut row = Value::Object(Map::new());
        for (name, cell) in names.iter().zip(record.iter()) {
            let list = cell.trim_start().starts_with('[').then(|| serde_json::from_str(cell).ok()).flatten();
            put_field(&mut row, name, list.unwrap_or_else(|| cell.into()))?;
        }
        let line = record.position().map_or(0, |position| position.line());
        rows.push((usize::try_from(line).unwrap_or(0), row.to_string()));
    }
    Ok(rows)
}

/// The rows in parts of so many, each of which is a body that is taken.
pub(super) fn parts(rows: &[(usize, String)], most: usize) -> Result<Vec<&[(usize, String)]>, String> {
    let (mut parts, mut left) = (Vec::new(), rows);
    while let Some((line, first)) = left.first() {
        if first.len() > BODY_BYTES_MAX {
            return Err(format!("line {line} has more than {BODY_BYTES_MAX} bytes"));
        }
        let mut bytes = 0;
        let fits = left.iter().take(most).take_while(|(_, row)| {
            bytes += row.len() + 1;
            bytes <= BODY_BYTES_MAX + 1
        });
        let (part, rest) = left.split_at(fits.count());
        parts.push(part);
        left = rest;
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_becomes_objects_with_their_lines() {
        let text = "id,clinic.id, days ,header:X-Branch\n7,c1,\"[\"\"Mon\"\",\"\"Wed\"\"]\",west\n\"8\",\"c, 2\",,\n";
        let rows = table(text).expect("a table");
        let values: Vec<Value> =
            rows.iter().map(|(_, row)| serde_json::from_str(row).expect("JSON")).collect();
        assert_eq!(rows.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(values[0]["clinic"]["id"], "c1");
        assert_eq!(values[0]["days"][1], "Wed");
        assert_eq!(values[0]["header:X-Branch"], "west");
        assert_eq!(values[1]["clinic"]["id"], "c, 2");
        assert!(table("a,a\n1,2\n").is_err() && table("a,a.b\n1,2\n").is_err() && table("a\n1,2\n").is_err());
    }

    #[test]
    fn parts_are_no_larger_than_what_is_taken() {
        let rows: Vec<_> = (1..=10).map(|line| (line, "x".repeat(1 << 20))).collect();
        let lengths = |most| parts(&rows, most).map(|parts| parts.iter().map(|part| part.len()).collect());
        assert_eq!(lengths(1_000), Ok(vec![3, 3, 3, 1]), "four of them and their line ends are too much");
        assert_eq!(lengths(2), Ok(vec![2; 5]));
        let whole = [(7, "x".repeat(BODY_BYTES_MAX))];
        assert_eq!(parts(&whole, 1).map(|parts| parts.len()), Ok(1));
        let long = [(7, "x".repeat(BODY_BYTES_MAX + 1))];
        assert!(parts(&long, 1).expect_err("no part holds it").contains("line 7"));
    }
}
