MADE={}
