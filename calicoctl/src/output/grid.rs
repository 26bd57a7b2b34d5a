//! Tables with lines around, as `ipam show` and `node status` have them.

use comfy_table::{CellAlignment, ContentArrangement, Table};

/// Borders and one line below the heading.
const PRESET: &str = "||--+-++|    ++++++";

/// The table's text, its last line ended. `right` are the columns whose numbers stand to the right.
#[must_use]
pub fn render(heading: &[&str], rows: &[Vec<String>], right: &[usize]) -> String {
    let mut table = Table::new();
    table.load_preset(PRESET);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heading.to_vec());
    for row in rows {
        let cells = row.iter().enumerate().map(|(i, text)| {
            let alignment = if right.contains(&i) { CellAlignment::Right } else { CellAlignment::Left };
            comfy_table::Cell::new(text).set_alignment(alignment)
        });
        table.add_row(cells);
    }
    let mut text = table.to_string();
    if rows.is_empty() {
        // Upstream closes an empty table too.
        let line = text.lines().next().unwrap_or_default().to_owned();
        if text.lines().filter(|l| *l == line).count() < 3 {
            text = format!("{text}\n{line}");
        }
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_line_around_and_one_below_its_heading() {
        let rows = [vec!["IP Pool".to_owned(), "4096".to_owned()]];
        assert_eq!(
            render(&["GROUPING", "IPS TOTAL"], &rows, &[1]),
            "+----------+-----------+\n| GROUPING | IPS TOTAL |\n+----------+-----------+\n\
             | IP Pool  |      4096 |\n+----------+-----------+\n"
        );
        assert_eq!(render(&["IP"], &[], &[]), "+----+\n| IP |\n+----+\n+----+\n");
    }
}
