//! The OpenAPI document, as far as it is the same for every route: the shape of errors and the id of a request.
//!
//! Each route is documented where it is written; `secretaria openapi` puts the parts together.

use utoipa::openapi::header::Header;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::Components;
use utoipa::openapi::security::SecurityScheme;
use utoipa::openapi::{Info, ObjectBuilder, OpenApi, PathItem, Ref, RefOr, Required, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::problem::Document;
use crate::request::{LONGEST_ID, REQUEST_ID};

const ABOUT: &str = "Signed webhooks in, conversations and usage out. Every error is a problem document (RFC 9457) whose \
`reason` is a word for programs; every answer has an `X-Request-Id`. A parameter that a path does not know is refused.";

/// The parts as one document, with what every operation has in common.
pub fn document(version: &str, parts: impl IntoIterator<Item = OpenApi>) -> OpenApi {
    let mut info = Info::new("Secretaria", version);
    info.description = Some(ABOUT.to_owned());
    let mut whole = OpenApi::new(info, utoipa::openapi::Paths::new());
    parts.into_iter().for_each(|part| whole.merge(part));

    whole.paths.paths.values_mut().flat_map(operations).for_each(add_request_id);
    let components = whole.components.get_or_insert_default();
    components.schemas.insert(Document::name().into_owned(), Document::schema());
    components.parameters.insert("RequestId".to_owned(), request_id_parameter());
    components.headers.insert("RequestId".to_owned(), request_id_header());
    whole
}

/// Adds an authentication scheme, under the name that operations use.
pub fn add_security(document: &mut OpenApi, name: &str, scheme: SecurityScheme) {
    document.components.get_or_insert_with(Components::new).add_security_scheme(name, scheme);
}

/// Every operation of a path.
pub fn operations(path: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, options, head, patch, trace, .. } = path;
    [get, put, post, delete, options, head, patch, trace].into_iter().filter_map(Option::as_mut)
}

fn add_request_id(operation: &mut Operation) {
    let parameter = RefOr::Ref(Ref::new("#/components/parameters/RequestId"));
    operation.parameters.get_or_insert_default().push(parameter);
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            let header = RefOr::Ref(Ref::new("#/components/headers/RequestId"));
            response.headers.insert(REQUEST_ID.as_str().to_owned(), header);
        }
    }
}

fn request_id_parameter() -> RefOr<utoipa::openapi::path::Parameter> {
    let about =
        "Your id for this request: 1 to 64 letters, digits, `-`, `_`, `.` or `:`. Any other is replaced by ours.";
    let parameter = ParameterBuilder::new()
        .name("X-Request-Id")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(about));
    parameter.schema(Some(ObjectBuilder::new().schema_type(Type::String))).build().into()
}

fn request_id_header() -> RefOr<Header> {
    let id = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(LONGEST_ID));
    let mut header = Header::new(id.pattern(Some("^[A-Za-z0-9._:-]+$")));
    header.description = Some("The id of this request, yours or ours. Name it when you ask about it.".to_owned());
    header.into()
}
