"""Assignments cut from the library, and the grader that names mistakes.

    assignment     what an assignment, a test and a cause are, and which assignments there are
    cut            the student's file: the library's own text with blanks
    handout        a student's folder;  solutions: the teacher's
    answer         how a test asks a student's file for results: `Remote` and `Local`
    sandbox        the process in which an answer runs, with limits;  child: what runs in it
    grade          every test on one answer, which gives a `Result`
    diagnosis      which known mistake explains an answer;  aliasing: who writes into gy;  causes: their names
    report         a result for the terminal;  overview: the page of a class
    assignments    A1, A4, A5

On the command line: `minires class`.
"""
