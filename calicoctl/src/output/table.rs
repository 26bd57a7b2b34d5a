//! Plain tables as Go's tabwriter pads them: every cell, the last too, is as wide as its column's widest and three.

/// Blanks after the widest cell of a column.
const PADDING: usize = 3;
/// Narrowest column with its padding.
const MIN_WIDTH: usize = 5;

/// The table's text; the first row is the heading.
#[must_use]
pub fn render(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |c: usize| {
        let widest =
            rows.iter().filter_map(|r| r.get(c)).map(|v| v.chars().count()).max().unwrap_or_default();
        (widest + PADDING).max(MIN_WIDTH)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (cell, width) in row.iter().zip(&widths) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_is_padded() {
        let rows = [["NAME", "X"], ["node-a", ""]].map(|r| r.map(str::to_owned).to_vec());
        assert_eq!(render(&rows), "NAME     X    \nnode-a        \n");
    }
}
