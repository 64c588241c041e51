"""The fault table: what each fault does at each step of a redemption, in real processes.

`table` says which steps and faults there are and what is expected; `cell` plays one of them, `cells` all on
one database; `bench` sets the servers up; `steps` stops a worker at a step; `page` writes docs/faults.md.
"""
