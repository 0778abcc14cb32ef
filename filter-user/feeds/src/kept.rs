//! A list as the daemon keeps it, in the plain form: each entry on a line, with its end if it has one of its own.

use std::fmt::Write as _;

use crate::list::{List, Listed};
use crate::text::network;

/// The first line.
const HEADER: &str = "# ringfence list 1";

/// The last line, so that a file that was cut off is noticed.
const END: &str = "# end\n";

/// The text that is kept.
pub fn to_kept(list: &List) -> String {
    let mut text = String::with_capacity(list.entries().len() * 18 + 64);
    text.push_str(HEADER);
    text.push('\n');
    for Listed { network, until } in list.entries() {
        let is_address = network.prefix_len() == network.max_prefix_len();
        let _infallible =
            if is_address { write!(text, "{}", network.addr()) } else { write!(text, "{network}") };
        if *until != 0 {
            let _infallible = write!(text, " {until}");
        }
        text.push('\n');
    }
    text.push_str(END);
    text
}

/// Reads a text that was kept. Whatever it lists is checked again.
///
/// # Errors
///
/// If it is not one, or a part of one.
pub fn from_kept(text: &str) -> Result<List, &'static str> {
    let body = text.strip_prefix(HEADER).and_then(|rest| rest.strip_suffix(END));
    let body = body.ok_or("it is no list that was kept, or only a part of one")?;
    let mut entries = Vec::new();
    for line in body.lines().filter(|line| !line.is_empty()) {
        let (name, until) = line.split_once(' ').unwrap_or((line, "0"));
        let (Some(network), Ok(until)) = (network(name), until.parse()) else {
            return Err("a line of it is no entry");
        };
        entries.push(Listed { network, until });
    }
    Ok(List::new(entries, &[]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_file_is_no_list() {
        let entries = vec![
            Listed { network: "185.0.0.1/32".parse().unwrap(), until: 7 },
            Listed { network: "185.0.1.0/24".parse().unwrap(), until: 0 },
        ];
        let list = List::new(entries, &[]);
        let text = to_kept(&list);
        assert_eq!(text, "# ringfence list 1\n185.0.0.1 7\n185.0.1.0/24\n# end\n");
        assert_eq!(from_kept(&text), Ok(list));
        for length in 0..text.len() {
            assert!(from_kept(&text[..length]).is_err(), "{length}");
        }
        assert!(from_kept("# ringfence list 1\nx\n# end\n").is_err());
    }
}
