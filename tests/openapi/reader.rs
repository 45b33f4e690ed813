//! Reading of docs/openapi.yaml and compilation of its schemas.

use super::*;

/// Reads the parts of the document and compiles their schemas.
pub(super) struct Reader<'a> {
    pub(super) root: &'a Value,
    pub(super) compiler: Compiler,
    pub(super) schemas: Schemas,
}

impl<'a> Reader<'a> {
    /// The value at a pointer and its final location, after following references.
    fn at(&self, pointer: &str) -> Result<(&'a Value, String)> {
        let found = self.root.pointer(pointer).with_context(|| format!("nothing at {pointer}"))?;
        match found["$ref"].as_str().and_then(|to| to.strip_prefix('#')) {
            Some(to) => self.at(to),
            None => Ok((found, pointer.to_owned())),
        }
    }

    pub(super) fn members(&self, pointer: &str) -> Vec<(String, String)> {
        let members = self.root.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
        members.map(|(name, _)| (name.clone(), format!("{pointer}/{}", escaped(name)))).collect()
    }

    fn schema(&mut self, pointer: &str) -> Result<SchemaIndex> {
        // A URI fragment must encode braces and spaces.
        let fragment = percent_encoding::utf8_percent_encode(pointer, percent_encoding::NON_ALPHANUMERIC);
        let compiled = self.compiler.compile(&format!("{NAME}#{fragment}"), &mut self.schemas);
        compiled.map_err(|error| anyhow::anyhow!("{pointer}: {error:#}"))
    }

    fn content(&mut self, pointer: &str) -> Result<BTreeMap<String, Content>> {
        let mut content = BTreeMap::new();
        for (kind, at) in self.members(pointer) {
            let schema = self.schema(&format!("{at}/schema"))?;
            let decoded = format!("{at}/x-decoded");
            let decoded = match self.root.pointer(&decoded) {
                Some(_) => Some(self.schema(&decoded)?),
                None => None,
            };
            let mut examples = Vec::new();
            for (_, example) in self.members(&format!("{at}/examples")) {
                examples.push(self.at(&example)?.0["value"].clone());
            }
            content.insert(kind, Content { schema, decoded, examples });
        }
        Ok(content)
    }

    pub(super) fn reply(&mut self, pointer: &str) -> Result<Reply> {
        let at = self.at(pointer)?.1;
        let mut headers = BTreeMap::new();
        for (name, header) in self.members(&format!("{at}/headers")) {
            let (found, header) = self.at(&header)?;
            let required = found["required"] == true;
            headers.insert(name.to_ascii_lowercase(), (required, self.schema(&format!("{header}/schema"))?));
        }
        let mut kinds = BTreeSet::new();
        for (_, content) in self.members(&format!("{at}/content")) {
            kinds.extend(self.kinds(&content)?);
        }
        if kinds.is_empty() {
            kinds.insert(String::new());
        }
        Ok(Reply { headers, content: self.content(&format!("{at}/content"))?, kinds })
    }

    /// The kinds of error in a response schema, from the member that each dialect uses for them.
    fn kinds(&self, content: &str) -> Result<BTreeSet<String>> {
        let places = ["schema/properties/data/properties/errorType", "schema/properties/code"];
        let places = places.into_iter().chain(["schema/properties/message", "schema/properties/error"]);
        for place in places {
            if let Some(Value::Array(kinds)) = self.root.pointer(&format!("{content}/{place}/enum")) {
                return Ok(kinds.iter().map(plain).collect());
            }
        }
        if self.root.pointer(&format!("{content}/x-decoded/properties/trailers")).is_some() {
            let trailers = self.at(&format!("{content}/x-decoded/properties/trailers"))?.0;
            let kinds = trailers["properties"]["grpc-status"]["enum"].as_array().context("no codes")?;
            return Ok(kinds.iter().map(plain).collect());
        }
        Ok(BTreeSet::from([String::new()]))
    }

    fn parameters(&mut self, pointer: &str) -> Result<Vec<Parameter>> {
        let count = self.root.pointer(pointer).and_then(Value::as_array).map_or(0, Vec::len);
        let mut parameters = Vec::new();
        for index in 0..count {
            let (found, at) = self.at(&format!("{pointer}/{index}"))?;
            let (name, place) = (plain(&found["name"]), plain(&found["in"]));
            let required = found["required"] == true;
            parameters.push(Parameter {
                name,
                place,
                required,
                schema: self.schema(&format!("{at}/schema"))?,
            });
        }
        Ok(parameters)
    }

    pub(super) fn operation(&mut self, pointer: &str) -> Result<Operation> {
        let found = self.root.pointer(pointer).context("no operation")?;
        let security =
            found["security"].as_array().with_context(|| format!("{pointer} names no security"))?;
        let names =
            |schemes: &Value| schemes.as_object().into_iter().flatten().map(|it| it.0.clone()).collect();
        let security = security.iter().map(names).collect();
        let needs_body = found["requestBody"]["required"] == true;
        let mut replies = BTreeMap::new();
        for (status, at) in self.members(&format!("{pointer}/responses")) {
            replies.insert(status.parse()?, self.reply(&at)?);
        }
        Ok(Operation {
            parameters: self.parameters(&format!("{pointer}/parameters"))?,
            needs_body,
            request: self.content(&format!("{pointer}/requestBody/content"))?,
            security,
            replies,
        })
    }
}

/// A name escaped for a JSON pointer (RFC 6901, section 3).
pub(super) fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
