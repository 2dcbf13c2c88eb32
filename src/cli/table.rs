//! Columns of text, and numbers as people read them.

/// Rows under a header, columns padded to their widest cell; the header's cells that begin with `>` are right-aligned.
pub struct Table {
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(header: &[&str]) -> Self {
        let right = header.iter().map(|name| name.starts_with('>')).collect();
        let names = header.iter().map(|name| name.trim_start_matches('>').to_string()).collect();
        Self { right, rows: vec![names] }
    }

    /// A row; one with fewer cells than the header is a line of its own that widens no column.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let whole = || self.rows.iter().filter(|row| row.len() == self.right.len());
        let widths: Vec<usize> =
            (0..self.right.len()).map(|column| whole().map(|row| console::measure_text_width(&row[column])).max().unwrap_or(0)).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let blank =
                    if row.len() == self.right.len() { widths[column].saturating_sub(console::measure_text_width(cell)) } else { 0 };
                let blank = " ".repeat(blank);
                line += &if self.right[column] { format!("{blank}{cell}") } else { format!("{cell}{blank}") };
                line += "  ";
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// `1.5 MB`: units of 1000, three digits.
pub fn bytes(count: u64) -> String {
    scaled(count as f64, &["B", "kB", "MB", "GB", "TB"])
}

/// `1.5 MFLOP`.
pub fn flops(count: u64) -> String {
    scaled(count as f64, &["FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP"])
}

/// `1.5 ms`.
pub fn secs(secs: f64) -> String {
    match secs {
        ..1e-3 => format!("{:.1} µs", secs * 1e6),
        ..1.0 => format!("{:.2} ms", secs * 1e3),
        _ => format!("{secs:.2} s"),
    }
}

fn scaled(value: f64, units: &[&str]) -> String {
    let (mut value, mut unit) = (value, 0);
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if unit == 0 { 0 } else { (2 - value.log10().floor().clamp(0.0, 2.0) as i32) as usize };
    format!("{value:.digits$} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits() {
        assert_eq!([0, 999, 1_000, 98_362_432, 12_345_678_901].map(bytes), ["0 B", "999 B", "1.00 kB", "98.4 MB", "12.3 GB"]);
        assert_eq!([secs(0.000_012_3), secs(0.0123), secs(12.345)], ["12.3 µs", "12.30 ms", "12.35 s"]);
        assert_eq!(flops(123_000), "123 kFLOP");
    }

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["name", ">bytes"]);
        table.row(["a×b".into(), "1".into()]);
        table.row(["a line that widens nothing".into()]);
        table.row(["longer".into(), "12345".into()]);
        assert_eq!(table.to_string(), "name    bytes\na×b         1\na line that widens nothing\nlonger  12345\n");
    }
}
