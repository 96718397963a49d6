//! What a resource kind accepts and answers: the data behind strict props, attribute checks, diffs and docs.

use super::value::Value;

/// The type of a prop.
#[derive(Debug, Clone, PartialEq)]
pub enum PropType {
    /// Anything, not looked into.
    Any,
    /// Text. A secret is accepted only where [`Prop::secret`] says so.
    String,
    /// `true` or `false`.
    Bool,
    /// A whole number within bounds, both included.
    Integer {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
    },
    /// A number.
    Number,
    /// A number within bounds, both included.
    Between {
        /// Smallest value.
        min: f64,
        /// Largest value.
        max: f64,
    },
    /// One of a fixed set of texts.
    OneOf(&'static [&'static str]),
    /// A list of one type.
    List(Box<PropType>),
    /// A map with free keys and values of one type.
    MapOf(Box<PropType>),
    /// A map with these keys and no others.
    Object(Vec<Prop>),
    /// A handle of a resource of one of these kinds.
    Resource(&'static [&'static str]),
    /// Whatever fits one of these.
    Either(Vec<PropType>),
    /// A value that can be bound to a Worker: text, secret, plain data or a handle.
    Binding,
}

/// One prop of a kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Prop {
    /// Its name, in camelCase; the snake_case form is accepted as well.
    pub name: &'static str,
    /// Its type.
    pub ty: PropType,
    /// Whether it must be given.
    pub required: bool,
    /// The value when it is not given, for help and docs; `check` of the provider applies it.
    pub default: Option<Value>,
    /// Whether a secret may stand here.
    pub secret: bool,
    /// Whether a change of it needs a new object.
    pub replaces: bool,
    /// One line of documentation.
    pub doc: &'static str,
}

impl Prop {
    /// An optional prop.
    #[must_use]
    pub const fn new(name: &'static str, ty: PropType, doc: &'static str) -> Self {
        Self {
            name,
            ty,
            required: false,
            default: None,
            secret: false,
            replaces: false,
            doc,
        }
    }

    /// The same prop, required.
    #[must_use]
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// The same prop, open to secrets.
    #[must_use]
    pub fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// The same prop, whose change replaces the object.
    #[must_use]
    pub fn replaces(mut self) -> Self {
        self.replaces = true;
        self
    }
}

/// One output attribute of a kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Attribute {
    /// Its name, in camelCase; the snake_case form reads the same.
    pub name: &'static str,
    /// Whether it names the object: dependents given the whole handle change only when one of these changes, and
    /// an update in place keeps it.
    pub identity: bool,
    /// One line of documentation.
    pub doc: &'static str,
}

impl Attribute {
    /// An attribute that may change with every update.
    #[must_use]
    pub const fn new(name: &'static str, doc: &'static str) -> Self {
        Self {
            name,
            identity: false,
            doc,
        }
    }

    /// An attribute that names the object and survives updates.
    #[must_use]
    pub const fn identity(name: &'static str, doc: &'static str) -> Self {
        Self {
            name,
            identity: true,
            doc,
        }
    }
}

/// In which order a replacement happens when the names of the two objects differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplaceOrder {
    /// The new object first; the old one goes at the end of the run.
    CreateFirst,
    /// The old object first, because two cannot stand side by side.
    DeleteFirst,
}

/// Whether deleting the object loses data that the script cannot bring back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeletePolicy {
    /// The object can be made again from the script.
    Disposable,
    /// The object holds data: replacing it needs consent.
    HoldsData,
}

/// Everything the engine and the script host know of a kind without calling it.
#[derive(Debug, Clone)]
pub struct KindSchema {
    /// The kind, such as `cloudflare::D1Database`. Script-defined kinds have names made at run time.
    pub kind: std::sync::Arc<str>,
    /// One line of documentation.
    pub doc: String,
    /// The props.
    pub props: Vec<Prop>,
    /// Whether props that the schema lacks are accepted (script-defined kinds without a declared shape).
    pub open_props: bool,
    /// The attributes.
    pub attributes: Vec<Attribute>,
    /// Whether attributes that the schema lacks may be read (script-defined kinds).
    pub open_attributes: bool,
    /// Order of a replacement.
    pub replace: ReplaceOrder,
    /// What a delete costs.
    pub delete: DeletePolicy,
    /// Longest physical name in characters.
    pub name_limit: usize,
}

/// Finds an attribute by its camelCase or snake_case name.
impl KindSchema {
    /// The attribute of that name, in either spelling.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes
            .iter()
            .find(|attribute| attribute.name == name || snake_case(attribute.name) == name)
    }

    /// The prop of that name, in either spelling.
    #[must_use]
    pub fn prop(&self, name: &str) -> Option<&Prop> {
        find_prop(&self.props, name)
    }
}

/// The prop of that name, in either spelling.
#[must_use]
pub fn find_prop<'a>(props: &'a [Prop], name: &str) -> Option<&'a Prop> {
    props
        .iter()
        .find(|prop| prop.name == name || snake_case(prop.name) == name)
}

/// `camelCase` of a `snake_case` name.
#[must_use]
pub fn camel_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut raised = false;
    for c in name.chars() {
        if c == '_' {
            raised = !out.is_empty();
        } else {
            out.push(if raised { c.to_ascii_uppercase() } else { c });
            raised = false;
        }
    }
    out
}

/// `apiToken` as `api_token`.
#[must_use]
pub fn snake_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for character in name.chars() {
        if character.is_ascii_uppercase() {
            out.push('_');
            out.push(character.to_ascii_lowercase());
        } else {
            out.push(character);
        }
    }
    out
}
