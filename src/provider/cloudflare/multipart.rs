//! `multipart/form-data` bodies, whole and in memory: the client sends the same bytes again when it retries.

use bytes::Bytes;

/// One part of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Name of the field.
    pub name: String,
    /// File name, where the part is a file.
    pub file_name: Option<String>,
    /// Content type.
    pub content_type: String,
    /// Content.
    pub content: Bytes,
}

/// Builds the content type and the body of a form. The boundary is a hash of all parts: the same form gives the same
/// bytes, and no part can hold it by chance.
#[must_use]
pub fn encode(parts: &[Part]) -> (String, Bytes) {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part.name.as_bytes());
        hasher.update(&(part.content.len() as u64).to_le_bytes());
        hasher.update(&part.content);
    }
    let boundary = format!("alch-{}", &hasher.finalize().to_hex()[..40]);
    let mut body = Vec::with_capacity(parts.iter().map(|part| part.content.len() + 256).sum());
    for part in parts {
        body.extend_from_slice(
            format!(
                "--{boundary}\r\ncontent-disposition: form-data; name=\"{}\"",
                quote(&part.name)
            )
            .as_bytes(),
        );
        if let Some(file_name) = &part.file_name {
            body.extend_from_slice(format!("; filename=\"{}\"", quote(file_name)).as_bytes());
        }
        body.extend_from_slice(
            format!("\r\ncontent-type: {}\r\n\r\n", part.content_type).as_bytes(),
        );
        body.extend_from_slice(&part.content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    (
        format!("multipart/form-data; boundary={boundary}"),
        body.into(),
    )
}

/// Escapes what would end the quoted name, as browsers do.
fn quote(name: &str) -> String {
    name.replace('"', "%22")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_has_one_section_a_part() {
        let (content_type, body) = encode(&[
            Part {
                name: "metadata".to_owned(),
                file_name: None,
                content_type: "application/json".to_owned(),
                content: "{}".into(),
            },
            Part {
                name: "a\"b.js".to_owned(),
                file_name: Some("a\"b.js".to_owned()),
                content_type: "application/javascript+module".to_owned(),
                content: "export default {}".into(),
            },
        ]);
        let boundary = content_type.split_once("boundary=").unwrap().1;
        assert_eq!(
            String::from_utf8(body.to_vec())
                .unwrap()
                .replace(boundary, "B"),
            "--B\r\ncontent-disposition: form-data; name=\"metadata\"\r\ncontent-type: application/json\r\n\r\n{}\r\n\
             --B\r\ncontent-disposition: form-data; name=\"a%22b.js\"; filename=\"a%22b.js\"\r\n\
             content-type: application/javascript+module\r\n\r\nexport default {}\r\n--B--\r\n"
        );
    }
}
