//! The before/after table.

/// A table of text, columns as wide as their widest cell.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

// === impl Table ===

impl Table {
    /// A table with these headings.
    pub fn new(headings: &[&str]) -> Table {
        Table { rows: vec![headings.iter().map(|&heading| heading.to_owned()).collect()] }
    }

    /// Adds a row; an empty first cell continues the row above.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
        };
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
        for (index, row) in self.rows.iter().enumerate() {
            let line: String =
                row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}  ")).collect();
            if index > 0 && row.first().is_some_and(|cell| !cell.is_empty()) {
                writeln!(f, "{}", "-".repeat(widths.iter().sum::<usize>() + 2 * columns.saturating_sub(1)))?;
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_acts_are_ruled_off() {
        let mut table = Table::new(&["act", "effects"]);
        table.row(vec!["double click".to_owned(), "2".to_owned()]);
        table.row(vec![String::new(), "1".to_owned()]);
        assert_eq!(
            table.to_string(),
            "act           effects\n---------------------\ndouble click  2\n              1\n"
        );
    }
}
