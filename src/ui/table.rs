//! Plain tables: columns as wide as their widest cell, two spaces between them.

use std::fmt::Write as _;

/// Lays out rows under a heading. The last column is not padded. Ends without a line break.
#[must_use]
pub fn render<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = heading.map(|cell| cell.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    line(&mut out, &widths, heading.iter().copied());
    for row in rows {
        out.push('\n');
        line(&mut out, &widths, row.iter().map(String::as_str));
    }
    out
}

fn line<'a>(out: &mut String, widths: &[usize], cells: impl Iterator<Item = &'a str>) {
    let mut text = String::new();
    for (width, cell) in widths.iter().zip(cells) {
        write!(text, "{cell:<width$}  ").expect("writing to a string does not fail");
    }
    out.push_str(text.trim_end());
}

#[cfg(test)]
mod tests {
    use snapbox::{assert_data_eq, str};

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            ["my-app/dev/db".to_owned(), "ready".to_owned()],
            ["x".to_owned(), "creating".to_owned()],
        ];
        assert_data_eq!(
            render(["FQN", "STATUS"], &rows),
            str![[r#"
FQN            STATUS
my-app/dev/db  ready
x              creating
"#]]
        );
    }
}
