" Project files of stead: KDL 2, with `run` lines as shell.
if exists("b:current_syntax")
  finish
endif
syntax include @steadShell syntax/sh.vim
unlet! b:current_syntax
syntax match steadNode /\%(^\|[{;]\)\@<=\s*\zs\h[A-Za-z0-9_-]*\ze\%(\s\|[;{}]\|$\)/
syntax match steadProperty /\<\h[A-Za-z0-9_.-]*\ze=/
syntax match steadNumber /\%(^\|[ =]\)\@<=[-+]\=\d[0-9_]*\%(\.\d\+\)\=\>/
syntax match steadConstant /#\%(true\|false\|null\)\>/
syntax match steadEscape contained /\\\%([nrtbfs"\\]\|u{\x\{1,6}}\)/
syntax match steadParameter contained /\$\@<!\${[^}"]*}/
syntax region steadString start=/"/ skip=/\\\\\|\\"/ end=/"/ contains=steadEscape,steadParameter
syntax region steadString start=/"""/ end=/"""/ contains=steadEscape,steadParameter
syntax region steadRaw start=/\z(#\+\)"/ end=/"\z1/
syntax region steadRun matchgroup=steadString start=/\%(\<run\s\+\)\@<="/ skip=/\\\\\|\\"/ end=/"/ contains=@steadShell,steadEscape,steadParameter
syntax region steadComment start=+/\*+ end=+\*/+ contains=steadComment
syntax match steadComment +//.*$+
syntax match steadComment +/-+
highlight default link steadNode Statement
highlight default link steadProperty Identifier
highlight default link steadNumber Number
highlight default link steadConstant Constant
highlight default link steadString String
highlight default link steadRaw String
highlight default link steadEscape SpecialChar
highlight default link steadParameter PreProc
highlight default link steadComment Comment
let b:current_syntax = "stead"
