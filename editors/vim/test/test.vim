" Runs in a silent Vim; what is not as it should be is written to $FOLDER/errors, and ends it with an error.
set encoding=utf-8
filetype plugin on
syntax on
execute 'edit ' . $FOLDER . '/stead.kdl'
call assert_equal('stead', &filetype)
call assert_equal('stead check', &makeprg)
function Group(word)
  call cursor(1, 1)
  call search(a:word, 'cW')
  return synIDattr(synID(line('.'), col('.'), 1), 'name')
endfunction
call assert_equal('steadNode', Group('project'))
call assert_equal('steadString', Group('shop'))
call assert_equal('steadNode', Group('run'))
call assert_equal('steadProperty', Group('internal'))
call assert_equal('steadConstant', Group('#true'))
call assert_match('^sh\|steadRun', Group('make'))
let s:lines = ['exit 1', '  × there is no image "serve"', '   ╭─[stead.kdl:3:23]', ' 2 │ image "server" { }', '  help: write "server"']
call setqflist([], ' ', {'lines': s:lines, 'efm': &l:errorformat})
let s:found = filter(getqflist(), 'v:val.valid')
call assert_equal(1, len(s:found))
call assert_equal([3, 23, 'there is no image "serve"'], [s:found[0].lnum, s:found[0].col, s:found[0].text])
if !empty(v:errors)
  call writefile(v:errors, $FOLDER . '/errors')
  cquit
endif
qall!
