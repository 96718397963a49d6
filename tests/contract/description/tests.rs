//! A small description, and what is found with it.

use axum::http::HeaderMap;

use super::*;

fn description() -> Description {
    let error = json!({"type": "object", "required": ["errors"]});
    let thing =
        json!({"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]});
    let answer = |schema: &Value| json!({"content": {"application/json": {"schema": schema}}});
    let responses = json!({"200": answer(&json!({"$ref": "#/components/schemas/thing"})), "4XX": answer(&error)});
    let number = json!({"name": "page", "in": "query", "schema": {"type": "number", "minimum": 1}});
    let id = json!({"name": "id", "in": "path", "required": true, "schema": {"type": "string", "maxLength": 3}});
    let mark =
        json!({"name": "x-mark", "in": "header", "required": true, "schema": {"type": "string"}});
    let body = json!({"type": "object", "properties": {"a": {"type": "object", "properties": {"b": {"type": "number"}}}}});
    let parts =
        json!({"type": "object", "properties": {"metadata": body}, "required": ["metadata"]});
    let document = json!({
        "paths": {
            "/things/{id}": {
                "get": {"parameters": [number, id], "responses": responses},
                "put": {"parameters": [id], "requestBody": answer(&body), "responses": responses},
                "patch": {"parameters": [id, mark], "responses": responses},
                "post": {"parameters": [id], "requestBody": {"content": {"multipart/form-data": {"schema": parts}}}, "responses": responses},
            },
        },
        "components": {"schemas": {"thing": thing}},
    });
    Description::parse(&document.to_string())
}

/// The places of the differences of an exchange.
fn places(method: &str, target: &str, request: &str, status: u16, answer: &str) -> Vec<String> {
    let mut request_headers = HeaderMap::new();
    if request.starts_with("--edge") {
        let kind = "multipart/form-data; boundary=edge";
        request_headers.insert("content-type", kind.parse().unwrap());
    }
    let exchange = Exchange {
        method: method.to_owned(),
        target: format!("/client/v4{target}"),
        request_headers,
        request: request.to_owned().into(),
        status,
        answer: answer.to_owned().into(),
    };
    let problems = description().problems(&exchange, true);
    problems.into_iter().map(|problem| problem.place).collect()
}

#[test]
fn what_fits_is_passed() {
    let fine = r#"{"id": "x", "more": 1}"#;
    let none: [&str; 0] = [];
    assert_eq!(places("GET", "/things/a?page=2", "", 200, fine), none);
    assert_eq!(
        places("PUT", "/things/a", r#"{"a": {"b": 1}}"#, 200, fine),
        none
    );
    assert_eq!(
        places("GET", "/things/a", "", 404, r#"{"errors": []}"#),
        none
    );
    let parts =
        "--edge\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n{}\r\n--edge--\r\n";
    assert_eq!(places("POST", "/things/a", parts, 200, fine), none);
}

#[test]
fn every_sort_of_mistake_is_found() {
    let fine = r#"{"id": "x"}"#;
    for (method, target, request, status, answer, place) in [
        ("GET", "/nothing", "", 200, fine, "request path"),
        ("DELETE", "/things/a", "", 200, fine, "request path"),
        ("GET", "/things/long", "", 200, fine, "request path id"),
        (
            "GET",
            "/things/a?page=0",
            "",
            200,
            fine,
            "request query page",
        ),
        (
            "GET",
            "/things/a?page=x",
            "",
            200,
            fine,
            "request query page",
        ),
        (
            "GET",
            "/things/a?pages=1",
            "",
            200,
            fine,
            "request query pages",
        ),
        ("GET", "/things/a", "{}", 200, fine, "request body"),
        ("PATCH", "/things/a", "", 200, fine, "request header x-mark"),
        ("PUT", "/things/a", "", 200, fine, "request body"),
        ("PUT", "/things/a", "no json", 200, fine, "request body"),
        ("PUT", "/things/a", r#"{"c": 1}"#, 200, fine, "request body"),
        (
            "PUT",
            "/things/a",
            r#"{"a": {"c": 1}}"#,
            200,
            fine,
            "request body /a",
        ),
        (
            "PUT",
            "/things/a",
            r#"{"a": {"b": "1"}}"#,
            200,
            fine,
            "request body /a/b",
        ),
        ("POST", "/things/a", "{}", 200, fine, "request body"),
        (
            "POST",
            "/things/a",
            "--edge--\r\n",
            200,
            fine,
            "request part metadata",
        ),
        ("GET", "/things/a", "", 200, "{}", "answer 200"),
        (
            "GET",
            "/things/a",
            "",
            200,
            r#"{"id": 1}"#,
            "answer 200 /id",
        ),
        ("GET", "/things/a", "", 200, "<html>", "answer 200"),
        ("GET", "/things/a", "", 404, "{}", "answer 404"),
        ("GET", "/things/a", "", 500, fine, "answer 500"),
    ] {
        assert_eq!(
            places(method, target, request, status, answer),
            [place],
            "{method} {target} {request}"
        );
    }
}
