; Comments, for what other parsers find in them (TODO and links).
((single_line_comment) @injection.content
  (#set! injection.language "comment"))
((multi_line_comment) @injection.content
  (#set! injection.language "comment"))

; The string of a `run` is a line of a shell (of several strings, each is a word); `onbuild` is an instruction of a Dockerfile.
((node
  (identifier) @_word
  (node_field (value (string (string_fragment) @injection.content))))
  (#eq? @_word "run")
  (#set! injection.language "bash"))
((node
  (identifier) @_word
  (node_field (value (string (string_fragment) @injection.content))))
  (#eq? @_word "onbuild")
  (#set! injection.language "dockerfile"))
