from relukit.cli import main

main()
