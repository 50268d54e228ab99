"""Reads YAML files into typed values, and reports all mistakes of a file with their places.

PyYAML's own objects do not know their position, turn ``1.10`` into 1.1 and ``no`` into False, and
keep the last of two equal keys silently. So a file is read from PyYAML's nodes::

    def server(field: Field) -> Server:
        fields = field.fields(("host", "port", "tags"))
        return Server(
            host=fields.required("host", Field.string, ""),
            port=fields.optional("port", whole(1, 65535), 80),
            tags=fields.optional("tags", each(Field.string), ()),
        )

    settings = read_yaml(data, "server.yaml", server)

What reads one value raises :class:`Wrong` at its first mistake; what combines several
(``optional``, ``required``, ``each``) goes on with the next one. So each value has at most one
mistake, and all values are looked at.

An alias costs nothing here: only what is asked for is read, and the number of reads is limited.
"""
